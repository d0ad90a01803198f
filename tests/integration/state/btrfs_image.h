// A btrfs file system of the test's own, in an image on a loop device, and its reading back.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "base/unique_fd.h"

namespace vibe::state {

// The tests' mounts are in a mount namespace of their own, so that they end with the process
// however that ends. Call once, before any thread.
void EnterOwnMountNamespace();

class BtrfsImage {
 public:
  explicit BtrfsImage(uint64_t bytes = 512ULL << 20);
  ~BtrfsImage();
  BtrfsImage(const BtrfsImage&) = delete;
  BtrfsImage& operator=(const BtrfsImage&) = delete;

  const std::filesystem::path& root() const { return root_; }  // where it is mounted
  int fd() const { return fd_.get(); }

  // What a power cut leaves: what had reached the disk, and nothing of what was only in memory.
  // Mounts it in the place of what was there.
  void CutPower();

 private:
  void Mount();
  void Unmount();

  std::filesystem::path folder_;
  std::filesystem::path image_;
  std::filesystem::path root_;
  UniqueFd fd_;
};

// Runs a program; throws when it fails.
void RunOrThrow(const std::vector<std::string>& args);

}  // namespace vibe::state
