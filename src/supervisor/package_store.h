// The app files that the host brought into the machine, one folder per package:
//   <root>/<hex of the digest>/app/…      what services see read-only at /app
//   <root>/<hex of the digest>/images/…   the OCI layouts that the package carries
// A folder appears under its name only when it is whole and synced; what a crash left is removed by
// Clean. Thread-safe: imports work in folders of their own.
#pragma once

#include <filesystem>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"
#include "vibe/v1/supervisor.pb.h"

namespace vibe::supervisor {

inline constexpr int kMaxPackageFiles = 100'000;
inline constexpr uint64_t kMaxPackageBytes = uint64_t{8} << 30;

// Takes the bytes of one package. Not thread-safe. Destroying it before Finish leaves nothing
// behind.
class PackageImport {
 public:
  virtual ~PackageImport() = default;
  virtual absl::Status Write(absl::string_view bytes) = 0;
  virtual absl::Status Finish() = 0;  // DataLoss when bytes are missing
};

class PackageStore {
 public:
  explicit PackageStore(std::filesystem::path root);

  // Removes what a crash left behind. Call once, before any import.
  absl::Status Clean();

  // INVALID_PACKAGE says which entry is wrong: a path that leads out, a duplicate, a limit.
  static absl::StatusOr<std::string> DigestOf(const v1::PackageIndex& index);

  bool Has(const std::string& digest) const;
  std::vector<std::string> List() const;  // digests
  absl::StatusOr<std::unique_ptr<PackageImport>> Import(const v1::PackageIndex& index);

  // Keeps a package that no project has yet: between its import and the EnsureProject that names
  // it. A pin that nobody takes away ends after ten minutes.
  void Pin(const std::string& digest);
  void Unpin(const std::string& digest);
  // Removes the package unless it is pinned.
  absl::Status Remove(const std::string& digest);

  // Of a digest that DigestOf made (anything else is refused with an empty path).
  std::filesystem::path AppDirectory(const std::string& digest) const;
  std::filesystem::path ImagesDirectory(const std::string& digest) const;
  // Whether the package holds more for /app than its manifest.
  bool HasFiles(const std::string& digest) const;

 private:
  std::filesystem::path Directory(const std::string& digest) const;
  const std::filesystem::path root_;
  absl::Mutex mutex_;  // held while a package goes, so that no pin comes too late
  std::map<std::string, absl::Time> pins_ ABSL_GUARDED_BY(mutex_);  // digest to when it ends
};

}  // namespace vibe::supervisor
