#include "oci/layout.h"

#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>

#include "absl/strings/escaping.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "base/sha256.h"
#include "base/status.h"
#include "base/unique_fd.h"
#include "oci/image_json.h"
#include "oci/json.h"

namespace vibe::oci {
namespace {

constexpr size_t kMaxLayouts = 1000;
constexpr size_t kPiece = 1 << 20;

absl::Status Broken(const std::string& layout, absl::string_view what) {
  return WithAdvice(
      Error(absl::StatusCode::kDataLoss, Reason::kImagePullFailed,
            absl::StrCat("the image layout ", absl::Utf8SafeCHexEscape(layout),
                         " is broken: ", what)),
      "make the layout again, or remove it so that the image is fetched from its registry");
}

absl::Status OpenError(const std::string& layout, absl::string_view name) {
  if (errno == ENOENT) {
    return Broken(layout, absl::StrCat(name, " is missing"));
  }
  if (errno == ELOOP || errno == ENOTDIR) {
    return Broken(layout, absl::StrCat(name, " is a symbolic link or of the wrong kind"));
  }
  return ErrnoError(errno, absl::StrCat("open ", layout, "/", name));
}

UniqueFd OpenDirectoryAt(int parent, const char* name) {
  return UniqueFd(::openat(parent, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC));
}

struct File {
  UniqueFd fd;
  int64_t size = 0;
};

// A regular file. O_NONBLOCK, because opening a fifo would otherwise wait for a writer.
absl::StatusOr<File> OpenFileAt(int parent, const std::string& layout, const std::string& name) {
  File file;
  file.fd.reset(::openat(parent, name.c_str(), O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC));
  if (!file.fd.valid()) {
    return OpenError(layout, name);
  }
  struct stat info {};
  if (::fstat(file.fd.get(), &info) != 0 || !S_ISREG(info.st_mode)) {
    return Broken(layout, absl::StrCat(name, " is not a regular file"));
  }
  file.size = info.st_size;
  return file;
}

// Gives `sink` exactly `size` bytes from `offset` on.
absl::Status Stream(const File& file, const std::string& layout, int64_t offset, int64_t size,
                    const ByteSink& sink) {
  std::string buffer(std::min<int64_t>(size, kPiece), '\0');
  while (size > 0) {
    const size_t wanted = static_cast<size_t>(std::min<int64_t>(size, kPiece));
    const ssize_t count = ::pread(file.fd.get(), buffer.data(), wanted, offset);
    if (count < 0 && errno == EINTR) {
      continue;
    }
    if (count < 0) {
      return ErrnoError(errno, absl::StrCat("read a blob of ", layout));
    }
    if (count == 0) {
      return Broken(layout, "a blob became shorter while it was read");
    }
    VIBE_RETURN_IF_ERROR(sink(absl::string_view(buffer.data(), static_cast<size_t>(count))));
    offset += count;
    size -= count;
  }
  return absl::OkStatus();
}

absl::StatusOr<std::string> ReadSmallFile(int parent, const std::string& layout,
                                          const std::string& name) {
  VIBE_ASSIGN_OR_RETURN(const File file, OpenFileAt(parent, layout, name));
  if (file.size > static_cast<int64_t>(kMaxDocument)) {
    return Broken(layout, absl::StrCat(name, " is larger than ", kMaxDocument, " bytes"));
  }
  std::string content;
  VIBE_RETURN_IF_ERROR(Stream(file, layout, 0, file.size, [&](absl::string_view bytes) {
    absl::StrAppend(&content, bytes);
    return absl::OkStatus();
  }));
  return content;
}

class LayoutSource : public ImageSource {
 public:
  LayoutSource(UniqueFd directory, std::string name, Descriptor root)
      : directory_(std::move(directory)), name_(std::move(name)), root_(std::move(root)) {}

  absl::StatusOr<Descriptor> Resolve() override { return root_; }

  absl::StatusOr<std::string> ReadDocument(const Descriptor& descriptor) override {
    if (descriptor.size > static_cast<int64_t>(kMaxDocument)) {
      return Broken(name_, absl::StrCat(descriptor.digest, " is too large for a document"));
    }
    std::string document;
    const ByteSink append = [&](absl::string_view bytes) {
      absl::StrAppend(&document, bytes);
      return absl::OkStatus();
    };
    VIBE_RETURN_IF_ERROR(ReadBlob(descriptor, 0, append));
    if (Sha256Digest(document) != descriptor.digest) {
      return Broken(name_,
                    absl::StrCat(descriptor.digest, " has another content than its digest says"));
    }
    return document;
  }

  absl::Status ReadBlob(const Descriptor& descriptor, int64_t offset,
                        const ByteSink& sink) override {
    if (!IsDigest(descriptor.digest) || offset < 0 || offset > descriptor.size) {
      return absl::InvalidArgumentError("no such range of a blob");
    }
    VIBE_ASSIGN_OR_RETURN(const File file, OpenBlob(descriptor.digest.substr(7)));
    if (file.size != descriptor.size) {
      return Broken(name_, absl::StrCat(descriptor.digest, " has ", file.size,
                                        " bytes in place of ", descriptor.size));
    }
    return Stream(file, name_, offset, descriptor.size - offset, sink);
  }

 private:
  absl::StatusOr<File> OpenBlob(const std::string& hex) {
    const UniqueFd blobs = OpenDirectoryAt(directory_.get(), "blobs");
    if (!blobs.valid()) {
      return OpenError(name_, "blobs");
    }
    const UniqueFd sha256 = OpenDirectoryAt(blobs.get(), "sha256");
    if (!sha256.valid()) {
      return OpenError(name_, "blobs/sha256");
    }
    return OpenFileAt(sha256.get(), name_, hex);
  }

  UniqueFd directory_;
  std::string name_;  // for messages
  Descriptor root_;
};

absl::string_view LastPart(absl::string_view repository) {
  return repository.substr(repository.rfind('/') + 1);  // npos + 1 is 0
}

bool Matches(const IndexEntry& entry, absl::string_view folder, const Reference& reference) {
  if (!reference.digest.empty()) {
    return entry.descriptor.digest == reference.digest;  // its content is what was asked for
  }
  if (entry.ref_name.empty()) {
    return false;
  }
  if (entry.ref_name == reference.tag && folder == LastPart(reference.repository)) {
    return true;
  }
  const absl::StatusOr<Reference> named = ParseReference(entry.ref_name);
  return named.ok() && named->registry == reference.registry &&
         named->repository == reference.repository && named->tag == reference.tag;
}

absl::Status CheckMarker(int directory, const std::string& name) {
  VIBE_ASSIGN_OR_RETURN(const std::string text, ReadSmallFile(directory, name, "oci-layout"));
  const absl::StatusOr<nlohmann::json> json = ParseObject(text, "oci-layout");
  const nlohmann::json version = json.ok() ? Member(*json, "imageLayoutVersion") : nlohmann::json();
  if (!version.is_string() || !absl::StartsWith(version.get_ref<const std::string&>(), "1.")) {
    return Broken(name, "oci-layout does not say version 1");
  }
  return absl::OkStatus();
}

// The source, null when this layout does not hold the reference, or why the layout cannot be read.
absl::StatusOr<std::unique_ptr<ImageSource>> OpenOne(UniqueFd directory, const std::string& folder,
                                                     const Reference& reference) {
  VIBE_RETURN_IF_ERROR(CheckMarker(directory.get(), folder));
  VIBE_ASSIGN_OR_RETURN(const std::string text,
                        ReadSmallFile(directory.get(), folder, "index.json"));
  absl::StatusOr<std::vector<IndexEntry>> entries = ParseIndex(text, "index.json");
  if (!entries.ok()) {
    return Broken(folder, entries.status().message());
  }
  entries->erase(
      std::remove_if(entries->begin(), entries->end(),
                     [&](const IndexEntry& entry) { return !Matches(entry, folder, reference); }),
      entries->end());
  if (entries->empty()) {
    return std::unique_ptr<ImageSource>();
  }
  const IndexEntry* best = BestEntry(*entries, HostPlatform());
  const Descriptor& root = (best == nullptr ? entries->front() : *best).descriptor;
  if (!IsIndex(root.media_type) && !IsManifest(root.media_type)) {
    return Broken(folder, absl::StrCat("its entry is not an image but a ", root.media_type));
  }
  return std::unique_ptr<ImageSource>(
      std::make_unique<LayoutSource>(std::move(directory), folder, root));
}

bool Exists(int directory, const char* name) {
  struct stat info {};
  return ::fstatat(directory, name, &info, AT_SYMLINK_NOFOLLOW) == 0;
}

// The names in a directory, sorted, so that the same folder always gives the same image.
absl::StatusOr<std::vector<std::string>> List(const UniqueFd& directory, const std::string& name) {
  UniqueFd copy(::openat(directory.get(), ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  DIR* stream = copy.valid() ? ::fdopendir(copy.get()) : nullptr;
  if (stream == nullptr) {
    return ErrnoError(errno, absl::StrCat("list ", name));
  }
  copy.release();  // owned by the stream
  std::vector<std::string> names;
  while (const dirent* entry = ::readdir(stream)) {  // NOLINT(concurrency-mt-unsafe): own stream
    const absl::string_view child = entry->d_name;
    if (child != "." && child != ".." && names.size() <= kMaxLayouts) {
      names.emplace_back(child);
    }
  }
  ::closedir(stream);
  if (names.size() > kMaxLayouts) {
    return absl::ResourceExhaustedError(
        absl::StrCat(name, " holds more than ", kMaxLayouts, " image layouts"));
  }
  std::sort(names.begin(), names.end());
  return names;
}

absl::Status NotThere(const std::filesystem::path& directory, const Reference& reference) {
  return Error(
      absl::StatusCode::kNotFound, Reason::kImagePullFailed,
      absl::StrCat(reference.ToString(), " is not among the images in ", directory.string()));
}

}  // namespace

absl::StatusOr<std::unique_ptr<ImageSource>> OpenLayout(const std::filesystem::path& directory,
                                                        const Reference& reference) {
  std::filesystem::path path = directory.lexically_normal();
  if (!path.has_filename()) {
    path =
        path.parent_path();  // it ended in '/', which would also make the last part a link followed
  }
  UniqueFd root = OpenDirectoryAt(AT_FDCWD, path.c_str());
  if (!root.valid()) {
    return errno == ENOENT ? NotThere(directory, reference) : OpenError(path.string(), ".");
  }
  if (Exists(root.get(), "oci-layout")) {
    absl::StatusOr<std::unique_ptr<ImageSource>> source =
        OpenOne(std::move(root), path.filename().string(), reference);
    return source.ok() && *source == nullptr ? NotThere(directory, reference) : std::move(source);
  }
  VIBE_ASSIGN_OR_RETURN(const std::vector<std::string> folders, List(root, path.string()));
  absl::Status broken;
  for (const std::string& folder : folders) {
    UniqueFd child = OpenDirectoryAt(root.get(), folder.c_str());
    if (!child.valid() || !Exists(child.get(), "oci-layout")) {
      continue;
    }
    absl::StatusOr<std::unique_ptr<ImageSource>> source =
        OpenOne(std::move(child), folder, reference);
    if (source.ok() && *source != nullptr) {
      return source;
    }
    broken.Update(source.status());
  }
  return broken.ok() ? NotThere(directory, reference) : broken;
}

}  // namespace vibe::oci
