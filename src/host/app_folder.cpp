#include "host/app_folder.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <system_error>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "base/file.h"
#include "base/sha256.h"
#include "base/status.h"
#include "base/utf8.h"
#include "host/ignore_rules.h"
#include "manifest/parse.h"

namespace vibe::host {
namespace {

namespace fs = std::filesystem;

constexpr size_t kChunkBytes = 1 << 20;
constexpr size_t kMaxPathBytes = 1024;
constexpr size_t kMaxNameBytes = 255;
constexpr uint64_t kMaxIgnoreBytes = 1 << 20;
constexpr char kIgnoreAdvice[] = "remove it from the app's folder, or name it in .vibeignore";

absl::Status Invalid(absl::string_view message) {
  return WithAdvice(Error(absl::StatusCode::kInvalidArgument, Reason::kInvalidPackage, message),
                    kIgnoreAdvice);
}

absl::Status Changed(absl::string_view path) {
  return WithAdvice(absl::AbortedError(absl::StrCat(path, " changed while it was read")),
                    "wait until nothing writes to the app's folder, then try again");
}

// For messages: a name may hold anything.
std::string Printable(absl::string_view name) {
  std::string text = ValidUtf8(name);
  for (char& c : text) {
    c = static_cast<unsigned char>(c) < 0x20 || c == 0x7f ? '?' : c;
  }
  return text;
}

timespec ModifiedAt(const struct stat& info) {
#ifdef __APPLE__
  return info.st_mtimespec;
#else
  return info.st_mtim;
#endif
}

bool SameFile(const AppFolder::File& file, const struct stat& info) {
  const timespec modified = ModifiedAt(info);
  return S_ISREG(info.st_mode) && static_cast<uint64_t>(info.st_size) == file.size &&
         modified.tv_sec == file.modified.tv_sec && modified.tv_nsec == file.modified.tv_nsec;
}

bool IsInside(const fs::path& root, const fs::path& path) {
  const auto [end, unused] = std::mismatch(root.begin(), root.end(), path.begin(), path.end());
  return end == root.end();
}

absl::StatusOr<IgnoreRules> ReadIgnoreRules(const fs::path& root) {
  const absl::StatusOr<std::string> text = ReadFile(root / ".vibeignore", kMaxIgnoreBytes);
  if (absl::IsNotFound(text.status())) {
    return IgnoreRules();
  }
  VIBE_RETURN_IF_ERROR(text.status());
  return IgnoreRules::Parse(*text);
}

// Walks the tree without following links to folders.
class Walk {
 public:
  Walk(const fs::path& root, IgnoreRules rules) : root_(root), rules_(std::move(rules)) {}

  absl::StatusOr<std::vector<AppFolder::File>> Run() {
    pending_.push_back("");
    while (!pending_.empty()) {
      const std::string directory = std::move(pending_.back());
      pending_.pop_back();
      std::error_code error;
      for (fs::directory_iterator it(root_ / directory, error), end; !error && it != end;
           it.increment(error)) {
        const std::string name = it->path().filename().string();
        VIBE_RETURN_IF_ERROR(
            Visit(directory.empty() ? name : absl::StrCat(directory, "/", name), name));
      }
      if (error) {
        return ErrnoError(error.value(), (root_ / directory).string());
      }
    }
    std::sort(files_.begin(), files_.end(),
              [](const auto& a, const auto& b) { return a.path < b.path; });
    return std::move(files_);
  }

 private:
  absl::Status Visit(const std::string& path, const std::string& name) {
    // The manifest decides by its own name: no pattern can take it out.
    struct stat info {};
    if (::lstat((root_ / path).c_str(), &info) != 0) {
      return errno == ENOENT ? Changed(Printable(path)) : ErrnoError(errno, Printable(path));
    }
    if (path != kManifestName && rules_.Ignores(path, S_ISDIR(info.st_mode))) {
      return absl::OkStatus();
    }
    if (path.size() > kMaxPathBytes || name.size() > kMaxNameBytes || ValidUtf8(name) != name) {
      return Invalid(absl::StrCat("the name ", Printable(path), " is too long or not UTF-8"));
    }
    if (S_ISDIR(info.st_mode)) {
      if (++directories_ > kMaxAppFiles) {
        return Invalid(absl::StrCat("the app has more than ", kMaxAppFiles, " folders"));
      }
      pending_.push_back(path);
      return absl::OkStatus();
    }
    fs::path resolved = root_ / path;
    if (S_ISLNK(info.st_mode)) {
      VIBE_RETURN_IF_ERROR(ResolveLink(path, resolved, info));
    }
    if (!S_ISREG(info.st_mode)) {
      return Invalid(absl::StrCat(path, " is not a plain file"));
    }
    return Add({path, std::move(resolved), static_cast<uint64_t>(info.st_size),
                (info.st_mode & 0111) != 0, ModifiedAt(info)});
  }

  absl::Status ResolveLink(const std::string& path, fs::path& resolved, struct stat& info) {
    std::error_code error;
    const fs::path target = fs::canonical(resolved, error);
    if (error) {
      return Invalid(absl::StrCat(path, " is a link to something that is not there"));
    }
    if (!IsInside(root_, target)) {
      return Invalid(absl::StrCat(path, " is a link that leads out of the app's folder"));
    }
    if (::lstat(target.c_str(), &info) != 0) {
      return Changed(path);
    }
    if (S_ISDIR(info.st_mode)) {
      return Invalid(absl::StrCat(path, " is a link to a folder; a package holds no links"));
    }
    resolved = target;
    return absl::OkStatus();
  }

  absl::Status Add(AppFolder::File file) {
    total_ += file.size;
    if (file.size > kMaxAppBytes || total_ > kMaxAppBytes) {
      return Invalid(
          absl::StrCat("with ", file.path, " the app is larger than ", kMaxAppBytes >> 30, " GiB"));
    }
    if (files_.size() == kMaxAppFiles) {
      return Invalid(absl::StrCat("the app has more than ", kMaxAppFiles, " files"));
    }
    files_.push_back(std::move(file));
    return absl::OkStatus();
  }

  const fs::path root_;
  const IgnoreRules rules_;
  std::vector<std::string> pending_;
  std::vector<AppFolder::File> files_;
  size_t directories_ = 0;
  uint64_t total_ = 0;
};

absl::StatusOr<fs::path> FindRoot(const fs::path& path) {
  if (!path.is_absolute()) {
    return absl::InvalidArgumentError(absl::StrCat("the path ", path.string(), " is not absolute"));
  }
  std::error_code error;
  fs::path resolved = fs::canonical(path, error);
  if (error) {
    return WithAdvice(Error(absl::StatusCode::kNotFound, Reason::kNotFound,
                            absl::StrCat(path.string(), ": ", error.message())),
                      "give the path of a folder that holds a vibe.yaml");
  }
  if (fs::is_directory(resolved, error)) {
    return resolved;
  }
  if (resolved.extension() == ".vibeapp") {
    return WithAdvice(Error(absl::StatusCode::kUnimplemented, Reason::kInvalidPackage,
                            absl::StrCat(path.string(),
                                         " is a package; this version of Vibe opens folders only")),
                      "give the path of the app's folder");
  }
  if (path.filename() != kManifestName) {
    return WithAdvice(Error(absl::StatusCode::kInvalidArgument, Reason::kInvalidPackage,
                            absl::StrCat(path.string(), " is neither a folder nor a vibe.yaml")),
                      "give the path of a folder that holds a vibe.yaml");
  }
  // The folder is where the name is, not where a link leads.
  resolved = fs::canonical(path.parent_path(), error);
  return error ? absl::StatusOr<fs::path>(ErrnoError(error.value(), path.string())) : resolved;
}

}  // namespace

absl::StatusOr<AppFolder> AppFolder::Open(const fs::path& path) {
  AppFolder app;
  VIBE_ASSIGN_OR_RETURN(app.root_, FindRoot(path));
  const fs::path file = app.root_ / kManifestName;
  struct stat info {};
  if (::stat(file.c_str(), &info) != 0 && errno == ENOENT) {
    return WithAdvice(Error(absl::StatusCode::kNotFound, Reason::kNotFound,
                            absl::StrCat("there is no vibe.yaml in ", app.root_.string())),
                      "give the path of a folder that holds a vibe.yaml");
  }
  if (S_ISDIR(info.st_mode) || S_ISFIFO(info.st_mode) || S_ISCHR(info.st_mode)) {
    return Invalid(absl::StrCat(file.string(), " is not a plain file"));
  }
  VIBE_ASSIGN_OR_RETURN(const std::string text, ReadFile(file, manifest::kMaxManifestBytes));
  manifest::ParseResult parsed = manifest::Parse(text);
  if (!parsed.manifest) {
    return WithReason(manifest::ToStatus(parsed, file.string()), Reason::kInvalidManifest);
  }
  app.manifest_ = *std::move(parsed.manifest);
  if (app.manifest_.mode == manifest::RuntimeMode::kCompose) {
    return WithAdvice(
        Error(absl::StatusCode::kUnimplemented, Reason::kInvalidManifest,
              absl::StrCat(file.string(), ": this version of Vibe does not import Compose files")),
        "describe the services in vibe.yaml, with runtime.mode native");
  }
  app.manifest_digest_ = Sha256Raw(text);
  return app;
}

absl::Status AppFolder::List() {
  VIBE_ASSIGN_OR_RETURN(IgnoreRules rules, ReadIgnoreRules(root_));
  VIBE_ASSIGN_OR_RETURN(files_, Walk(root_, std::move(rules)).Run());
  return absl::OkStatus();
}

absl::StatusOr<v1::PackageIndex> AppFolder::Index(const ProgressSink& progress) const {
  uint64_t total = 0;
  for (const File& file : files_) {
    total += file.size;
  }
  v1::PackageIndex index;
  uint64_t done = 0;
  for (const File& file : files_) {
    const std::vector<File> one = {file};
    FileReader reader(one);
    Sha256 sha;
    while (true) {
      VIBE_ASSIGN_OR_RETURN(const std::string chunk, reader.Next());
      if (chunk.empty()) {
        break;
      }
      sha.Update(chunk);
      done += chunk.size();
      VIBE_RETURN_IF_ERROR(progress(done, total));
    }
    v1::PackageFile& entry = *index.add_files();
    entry.set_path(file.path);
    entry.set_size(file.size);
    entry.set_sha256(sha.Finish());
    entry.set_executable(file.executable);
    if (file.path == kManifestName && entry.sha256() != manifest_digest_) {
      return Changed(file.path);
    }
  }
  return index;
}

absl::Status FileReader::OpenNext() {
  const AppFolder::File& file = files_[index_];
  // O_NONBLOCK: what was a file may be a fifo by now.
  fd_.reset(::open(file.resolved.c_str(), O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC));
  if (!fd_.valid()) {
    return errno == ENOENT || errno == ELOOP ? Changed(file.path) : ErrnoError(errno, file.path);
  }
  read_ = 0;
  return CheckUnchanged();
}

absl::Status FileReader::CheckUnchanged() const {
  struct stat info {};
  return ::fstat(fd_.get(), &info) == 0 && SameFile(files_[index_], info)
             ? absl::OkStatus()
             : Changed(files_[index_].path);
}

absl::StatusOr<std::string> FileReader::Next() {
  std::string chunk;
  while (index_ < files_.size() && chunk.size() < kChunkBytes) {
    const AppFolder::File& file = files_[index_];
    if (!fd_.valid()) {
      VIBE_RETURN_IF_ERROR(OpenNext());
    }
    if (read_ == file.size) {
      VIBE_RETURN_IF_ERROR(CheckUnchanged());
      fd_.reset();
      ++index_;
      continue;
    }
    const size_t old = chunk.size();
    chunk.resize(old + std::min<uint64_t>(kChunkBytes - old, file.size - read_));
    const ssize_t count = ::read(fd_.get(), chunk.data() + old, chunk.size() - old);
    if (count < 0 && errno != EINTR) {
      return ErrnoError(errno, file.path);
    }
    if (count == 0) {
      return Changed(file.path);
    }
    chunk.resize(old + static_cast<size_t>(std::max<ssize_t>(count, 0)));
    read_ += static_cast<uint64_t>(std::max<ssize_t>(count, 0));
  }
  return chunk;
}

}  // namespace vibe::host
