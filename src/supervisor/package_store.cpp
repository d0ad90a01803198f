#include "supervisor/package_store.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <system_error>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/time/clock.h"
#include "base/file.h"
#include "base/random.h"
#include "base/sha256.h"
#include "base/status.h"
#include "base/unique_fd.h"
#include "oci/reference.h"

namespace vibe::supervisor {
namespace {

namespace fs = std::filesystem;

constexpr absl::Duration kPinned = absl::Minutes(10);
constexpr char kTemporaryPrefix[] = ".import-";
constexpr size_t kMaxPathBytes = 1024;
constexpr char kImagesPrefix[] = "images/";

absl::Status Invalid(absl::string_view message) {
  return Error(absl::StatusCode::kInvalidArgument, Reason::kInvalidPackage, message);
}

absl::Status CheckPath(const std::string& path) {
  if (path.empty() || path.size() > kMaxPathBytes || path.find('\0') != std::string::npos) {
    return Invalid("a file name is empty, too long or holds a zero byte");
  }
  for (const absl::string_view part : absl::StrSplit(path, '/')) {
    if (part.empty() || part == "." || part == ".." || part.size() > 255) {
      return Invalid(absl::StrCat("the path ", path, " is not a plain relative path"));
    }
  }
  return absl::OkStatus();
}

absl::Status WriteError(int error, const std::string& path) {
  absl::Status status = ErrnoError(error, absl::StrCat("write ", path));
  if (error == ENOSPC || error == EDQUOT) {
    status = WithAdvice(WithReason(std::move(status), Reason::kDiskLow),
                        "free some disk space, then try again");
  }
  return status;
}

class DirectoryImport : public PackageImport {
 public:
  DirectoryImport(v1::PackageIndex index, fs::path temporary, fs::path target)
      : index_(std::move(index)), temporary_(std::move(temporary)), target_(std::move(target)) {}

  ~DirectoryImport() override {
    file_.reset();
    RemoveAll(temporary_).IgnoreError();  // gone already after Finish
  }

  absl::Status Write(absl::string_view bytes) override {
    while (!bytes.empty()) {
      VIBE_RETURN_IF_ERROR(OpenNext());
      if (next_ == index_.files_size()) {
        return Invalid("there are more bytes than the index says");
      }
      const v1::PackageFile& file = index_.files(next_);
      const absl::string_view part = bytes.substr(0, file.size() - written_);
      VIBE_RETURN_IF_ERROR(Append(part, file.path()));
      bytes.remove_prefix(part.size());
    }
    return absl::OkStatus();
  }

  absl::Status Finish() override {
    VIBE_RETURN_IF_ERROR(OpenNext());
    if (next_ != index_.files_size()) {
      return absl::DataLossError(
          absl::StrCat("the package ended before ", index_.files(next_).path(), " was complete"));
    }
    UniqueFd directory(::open(temporary_.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    // One syncfs is far cheaper than an fsync for each of thousands of files, and promises the
    // same.
    if (!directory.valid() || ::syncfs(directory.get()) != 0) {
      return WriteError(errno, temporary_.string());
    }
    if (::rename(temporary_.c_str(), target_.c_str()) != 0 && errno != EEXIST &&
        errno != ENOTEMPTY) {
      return WriteError(errno, target_.string());
    }
    return SyncDirectory(target_.parent_path());
  }

 private:
  fs::path PathOf(const std::string& path) const {
    return absl::StartsWith(path, kImagesPrefix) ? temporary_ / path : temporary_ / "app" / path;
  }

  // Closes every file that is complete and opens the one that the next byte belongs to.
  absl::Status OpenNext() {
    while (next_ < index_.files_size()) {
      const v1::PackageFile& file = index_.files(next_);
      if (!file_.valid()) {
        const fs::path path = PathOf(file.path());
        VIBE_RETURN_IF_ERROR(MakeDirectories(path.parent_path()));
        file_.reset(::open(path.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC,
                           file.executable() ? 0755 : 0644));
        if (!file_.valid()) {
          return WriteError(errno, file.path());
        }
        sha_ = Sha256();
        written_ = 0;
      }
      if (written_ < file.size()) {
        return absl::OkStatus();
      }
      if (sha_.Finish() != file.sha256()) {
        return Error(absl::StatusCode::kDataLoss, Reason::kInvalidPackage,
                     absl::StrCat(file.path(), " changed while it was read"));
      }
      file_.reset();
      ++next_;
    }
    return absl::OkStatus();
  }

  absl::Status Append(absl::string_view bytes, const std::string& path) {
    sha_.Update(bytes);
    written_ += bytes.size();
    while (!bytes.empty()) {
      const ssize_t count = ::write(file_.get(), bytes.data(), bytes.size());
      if (count < 0 && errno != EINTR) {
        return WriteError(errno, path);
      }
      bytes.remove_prefix(count < 0 ? 0 : static_cast<size_t>(count));
    }
    return absl::OkStatus();
  }

  const v1::PackageIndex index_;
  const fs::path temporary_;
  const fs::path target_;
  int next_ = 0;  // the file that is being written
  UniqueFd file_;
  uint64_t written_ = 0;
  Sha256 sha_;
};

}  // namespace

PackageStore::PackageStore(fs::path root) : root_(std::move(root)) {}

absl::Status PackageStore::Clean() {
  VIBE_RETURN_IF_ERROR(MakeDirectories(root_));
  std::error_code error;
  for (const auto& entry : fs::directory_iterator(root_, error)) {
    if (absl::StartsWith(entry.path().filename().string(), kTemporaryPrefix)) {
      VIBE_RETURN_IF_ERROR(RemoveAll(entry.path()));
    }
  }
  return error ? ErrnoError(error.value(), root_.string()) : absl::OkStatus();
}

absl::StatusOr<std::string> PackageStore::DigestOf(const v1::PackageIndex& index) {
  if (index.files_size() > kMaxPackageFiles) {
    return Invalid(absl::StrCat("the package has more than ", kMaxPackageFiles, " files"));
  }
  uint64_t total = 0;
  const std::string* previous = nullptr;
  for (const v1::PackageFile& file : index.files()) {
    VIBE_RETURN_IF_ERROR(CheckPath(file.path()));
    if (previous != nullptr && *previous >= file.path()) {
      return Invalid(absl::StrCat(file.path(), " is listed twice or out of order"));
    }
    previous = &file.path();
    if (file.sha256().size() != 32 || file.size() > kMaxPackageBytes) {
      return Invalid(absl::StrCat(file.path(), " has no digest or is too large"));
    }
    total += file.size();
    if (total > kMaxPackageBytes) {
      return Invalid(absl::StrCat("the package is larger than ", kMaxPackageBytes, " bytes"));
    }
  }
  return Sha256Digest(index.SerializeAsString());
}

fs::path PackageStore::Directory(const std::string& digest) const {
  return oci::IsDigest(digest) ? root_ / digest.substr(sizeof "sha256:" - 1) : fs::path();
}

bool PackageStore::Has(const std::string& digest) const {
  const fs::path directory = Directory(digest);
  std::error_code error;
  return !directory.empty() && fs::is_directory(directory, error);
}

std::vector<std::string> PackageStore::List() const {
  std::vector<std::string> digests;
  std::error_code error;
  for (const auto& entry : fs::directory_iterator(root_, error)) {
    const std::string digest = absl::StrCat("sha256:", entry.path().filename().string());
    if (oci::IsDigest(digest)) {
      digests.push_back(digest);
    }
  }
  return digests;
}

absl::StatusOr<std::unique_ptr<PackageImport>> PackageStore::Import(const v1::PackageIndex& index) {
  VIBE_ASSIGN_OR_RETURN(const std::string digest, DigestOf(index));
  const fs::path temporary = root_ / absl::StrCat(kTemporaryPrefix, RandomHex(8));
  VIBE_RETURN_IF_ERROR(MakeDirectories(temporary / "app"));
  return std::make_unique<DirectoryImport>(index, temporary, Directory(digest));
}

void PackageStore::Pin(const std::string& digest) {
  absl::MutexLock lock(&mutex_);
  pins_[digest] = absl::Now() + kPinned;
}

void PackageStore::Unpin(const std::string& digest) {
  absl::MutexLock lock(&mutex_);
  pins_.erase(digest);
}

absl::Status PackageStore::Remove(const std::string& digest) {
  absl::MutexLock lock(&mutex_);
  if (const auto pin = pins_.find(digest); pin != pins_.end()) {
    if (absl::Now() < pin->second) {
      return absl::OkStatus();
    }
    pins_.erase(pin);
  }
  const fs::path directory = Directory(digest);
  return directory.empty() ? absl::OkStatus() : RemoveAll(directory);
}

fs::path PackageStore::AppDirectory(const std::string& digest) const {
  const fs::path directory = Directory(digest);
  return directory.empty() ? directory : directory / "app";
}

fs::path PackageStore::ImagesDirectory(const std::string& digest) const {
  const fs::path directory = Directory(digest);
  return directory.empty() ? directory : directory / "images";
}

bool PackageStore::HasFiles(const std::string& digest) const {
  const fs::path app = AppDirectory(digest);
  std::error_code error;
  for (const auto& entry : fs::directory_iterator(app, error)) {
    const std::string name = entry.path().filename();
    if (name != "vibe.yaml" && !absl::StartsWith(name, "_vibe_")) {
      return true;
    }
  }
  return false;
}

}  // namespace vibe::supervisor
