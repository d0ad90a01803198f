// An app as a folder with a vibe.yaml: its manifest, and its files as a package index.
// Input is hostile: an app's folder may hold anything.
#pragma once

#include <cstdint>
#include <ctime>
#include <filesystem>
#include <functional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "base/unique_fd.h"
#include "manifest/manifest.h"
#include "vibe/v1/supervisor.pb.h"

namespace vibe::host {

inline constexpr size_t kMaxAppFiles = 100'000;
inline constexpr uint64_t kMaxAppBytes = uint64_t{8} << 30;
inline constexpr char kManifestName[] = "vibe.yaml";

// Blocking; one thread at a time.
class AppFolder {
 public:
  struct File {
    std::string path;  // in the package
    std::filesystem::path
        resolved;  // where its bytes are: differs when it is a link inside the folder
    uint64_t size = 0;
    bool executable = false;
    timespec modified{};
  };
  // Bytes hashed so far, of all. An error ends the work and comes back.
  using ProgressSink = std::function<absl::Status(uint64_t done, uint64_t total)>;

  // `path` is absolute: a folder with a vibe.yaml, or the vibe.yaml. Reads and checks the manifest.
  // INVALID_MANIFEST has a line for each error; NOT_FOUND and INVALID_PACKAGE say what `path` is
  // instead.
  static absl::StatusOr<AppFolder> Open(const std::filesystem::path& path);

  const std::filesystem::path& root() const { return root_; }
  const manifest::Manifest& manifest() const { return manifest_; }

  // Lists the files, sorted by path in byte order. INVALID_PACKAGE names the entry that cannot go
  // into a package: a link that leads out or to a folder, a socket, a name that is not UTF-8, too
  // many or too large files.
  absl::Status List();
  const std::vector<File>& files() const { return files_; }

  // Hashes the listed files. A file that changes meanwhile is an Aborted error that names it.
  absl::StatusOr<v1::PackageIndex> Index(const ProgressSink& progress) const;

 private:
  AppFolder() = default;

  std::filesystem::path root_;
  std::string manifest_digest_;  // 32 raw bytes
  manifest::Manifest manifest_;
  std::vector<File> files_;
};

// The bytes of the files, one after the other, in pieces of up to 1 MiB. One thread at a time.
class FileReader {
 public:
  explicit FileReader(const std::vector<AppFolder::File>& files) : files_(files) {}

  // Empty after the last byte of the last file. Aborted names a file that is not what was listed.
  absl::StatusOr<std::string> Next();

 private:
  absl::Status OpenNext();
  absl::Status CheckUnchanged() const;

  const std::vector<AppFolder::File>& files_;
  size_t index_ = 0;  // of the file that is open, or is opened next
  UniqueFd fd_;
  uint64_t read_ = 0;
};

}  // namespace vibe::host
