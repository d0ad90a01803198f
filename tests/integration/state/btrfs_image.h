// A btrfs file system of the test's own, in an image on a loop device, and its reading back.
#pragma once

#include <cstdint>
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
  // The image is made in `parent`, or in memory without one.
  explicit BtrfsImage(uint64_t bytes = 512ULL << 20, std::filesystem::path parent = {});
  ~BtrfsImage();
  BtrfsImage(const BtrfsImage&) = delete;
  BtrfsImage& operator=(const BtrfsImage&) = delete;

  const std::filesystem::path& root() const { return root_; }  // where it is mounted
  int fd() const { return fd_.get(); }

  // What a power cut leaves: what had reached the disk, and nothing of what was only in memory.
  // Mounts it in the place of what was there.
  void CutPower();

  // The same of an instant within what is under way: first the disk as it is right now, whoever
  // writes to it; later that is mounted in the place of what was there. The image must be on a file
  // system with reflinks, such as another BtrfsImage.
  std::filesystem::path CopyNow() const;
  void ContinueFrom(const std::filesystem::path& copy);

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
