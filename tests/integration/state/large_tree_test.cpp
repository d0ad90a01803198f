// A million small files, and files of every kind: what a snapshot of them costs, and that all of it
// comes back. VIBE_TEST_SMALL_FILES says how many (20,000 without it).
#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <cstdlib>
#include <fstream>
#include <functional>
#include <iostream>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "btrfs_image.h"
#include "state/snapshot_store.h"
#include "state/subvolume.h"

namespace vibe::state {
namespace {

namespace fs = std::filesystem;

constexpr uint64_t kFiles = 20'000;
constexpr uint64_t kInOneFolder = 4;        // each fourth file is in the same folder
constexpr uint64_t kMemory = 160ULL << 20;  // that the work on any tree may add

uint64_t Files() {
  uint64_t count = kFiles;
  const char* const text = std::getenv("VIBE_TEST_SMALL_FILES");
  EXPECT_TRUE(text == nullptr || absl::SimpleAtoi(text, &count)) << text;
  return count;
}

// Of this process, in bytes: what it has, or the most that it had since ResetPeak.
uint64_t Memory(const std::string& field) {
  std::ifstream status("/proc/self/status");
  uint64_t kib = 0;
  for (std::string line; std::getline(status, line);) {
    if (line.rfind(field + ":", 0) == 0) {
      kib = std::strtoull(line.c_str() + field.size() + 1, nullptr, 10);
    }
  }
  return kib << 10;
}

void ResetPeak() {
  std::ofstream("/proc/self/clear_refs") << "5";
}

void MakeFile(int folder, const std::string& name, absl::string_view content) {
  const UniqueFd fd(::openat(folder, name.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644));
  ASSERT_TRUE(fd.valid());
  ASSERT_EQ(::write(fd.get(), content.data(), content.size()),
            static_cast<ssize_t>(content.size()));
}

// `count` files of a few bytes, some of a page, in folders of a thousand and in one large one.
void MakeTree(const fs::path& root, uint64_t count) {
  fs::create_directories(root / "large");
  const UniqueFd large(::open((root / "large").c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  UniqueFd folder;
  const std::string page(4096, 'p');
  for (uint64_t i = 0; i < count; ++i) {
    if (i % 1'000 == 0) {
      const fs::path path = root / absl::StrCat(i / 100'000) / absl::StrCat(i / 1'000);
      fs::create_directories(path);
      folder.reset(::open(path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    }
    const bool in_large = i % kInOneFolder == 0;
    MakeFile(
        in_large ? large.get() : folder.get(), absl::StrCat("file-", i * 7919 % count, "-", i),
        i % 50 == 0 ? absl::string_view(page) : absl::string_view(absl::StrCat("content ", i)));
  }
}

bool Exists(const fs::path& path) {
  return fs::exists(fs::symlink_status(path));
}

class LargeTree : public ::testing::Test {
 protected:
  explicit LargeTree(uint64_t bytes = 512ULL << 20) : image_(bytes) {}

  std::unique_ptr<SnapshotStore> Project(const std::string& id) {
    fs::create_directories(image_.root() / id);
    auto store = SnapshotStore::Open(image_.root() / id, id).value();
    EXPECT_TRUE(store->EnsureCurrent().ok());
    fs::create_directories(Volume(id));
    return store;
  }

  fs::path Volume(const std::string& id) const { return image_.root() / id / "current/volumes/v"; }

  BtrfsImage image_;
};

class ManySmallFiles : public LargeTree {
 protected:
  ManySmallFiles() : LargeTree((1ULL << 30) + Files() * (8 << 10)) {}

  absl::Duration Timed(const std::string& what, const std::function<absl::Status()>& work) {
    const uint64_t before = Memory("VmRSS");
    ResetPeak();
    const absl::Time started = absl::Now();
    const absl::Status status = work();
    const absl::Duration took = absl::Now() - started;
    const uint64_t peak = Memory("VmHWM");
    const uint64_t added = peak - std::min(peak, before);
    EXPECT_TRUE(status.ok()) << what << ": " << status;
    EXPECT_LT(added, kMemory) << what << " takes memory with the number of files";
    std::cout << "  " << what << ": " << absl::FormatDuration(took) << ", " << (added >> 20)
              << " MiB more memory" << std::endl;
    return took;
  }

  struct Costs {
    absl::Duration save, restore, duplicate, remove;
  };

  // Everything that can be done with a snapshot, of the files that are there.
  Costs Work(const std::string& id, SnapshotStore& store) {
    Costs costs;
    EXPECT_TRUE(CommitFilesystem(image_.fd()).ok());
    SnapshotMetadata saved;
    costs.save = Timed("save", [&] {
      auto result = store.Save({.volumes = {{"v", Consistency::kGeneric}}});
      saved = result.ok() ? *result : SnapshotMetadata();
      return result.status();
    });
    // What is not complete does not know its sockets yet: they are looked for.
    Timed("restore before that is complete",
          [&] { return store.Restore({.snapshot_id = saved.snapshot_id}); });
    Timed("duplicate as it is now", [&] {
      return store.Duplicate(
          {.target = image_.root() / (id + "-live"), .target_project_id = id + "-live"});
    });
    Timed("complete", [&] { return store.Complete(saved.snapshot_id, {}).status(); });
    costs.restore =
        Timed("restore", [&] { return store.Restore({.snapshot_id = saved.snapshot_id}); });
    Timed("verify", [&] { return store.Verify(saved.snapshot_id); });
    costs.duplicate = Timed("duplicate", [&] {
      return store.Duplicate({.snapshot_id = saved.snapshot_id,
                              .target = image_.root() / (id + "-copy"),
                              .target_project_id = id + "-copy"});
    });
    costs.remove = Timed("remove", [&] { return store.Delete(saved.snapshot_id); });
    return costs;
  }
};

TEST_F(ManySmallFiles, CostNoMoreThanAFew) {
  const uint64_t count = Files();
  std::cout << "10 files" << std::endl;
  const auto few = Project("few");
  MakeTree(Volume("few"), 10);
  const Costs least = Work("few", *few);

  std::cout << count << " files" << std::endl;
  const auto many = Project("many");
  const absl::Time started = absl::Now();
  MakeTree(Volume("many"), count);
  std::cout << "  made in " << absl::FormatDuration(absl::Now() - started) << std::endl;
  const Costs costs = Work("many", *many);

  // The kernel's own work in the background is the rest: far less than a look at each file.
  const absl::Duration slack = absl::Milliseconds(500);
  EXPECT_LT(costs.save, 2 * least.save + slack);
  EXPECT_LT(costs.restore, 2 * least.restore + slack);
  EXPECT_LT(costs.duplicate, 2 * least.duplicate + slack);
  EXPECT_LT(costs.remove, 2 * least.remove + slack);
}

TEST_F(LargeTree, FilesOfEveryKindComeBack) {
  const auto store = Project("p");
  const fs::path volume = Volume("p");
  const std::string odd = "not utf-8 \xff\xfe \n";
  std::ofstream(volume / "file") << "content";
  const std::string odd_content("od\0d\xff content", 14);
  std::ofstream(volume / odd) << odd_content;
  fs::create_directories(volume / "folder/empty");
  fs::create_hard_link(volume / "file", volume / "folder/linked");
  fs::create_symlink("../nowhere", volume / "folder/dangling");
  std::ofstream(volume / "sparse") << "begin";
  fs::resize_file(volume / "sparse", 1ULL << 40);
  {
    const UniqueFd fd(::open((volume / "sparse").c_str(), O_WRONLY));
    ASSERT_EQ(::pwrite(fd.get(), "end", 3, (1LL << 40) - 3), 3);
  }
  ASSERT_EQ(::setxattr((volume / "file").c_str(), "user.colour", "red", 3, 0), 0);
  ASSERT_EQ(::setxattr((volume / "file").c_str(), "trusted.more", "x", 1, 0), 0);
  ASSERT_EQ(::lchown((volume / "file").c_str(), 1234, 4321), 0);
  ASSERT_EQ(::lchown((volume / "folder/dangling").c_str(), 99, 98), 0);
  ASSERT_EQ(::chmod((volume / "file").c_str(), 06751), 0);
  ASSERT_EQ(::chmod((volume / "folder").c_str(), 01700), 0);
  ASSERT_EQ(::mkfifo((volume / "fifo").c_str(), 0600), 0);
  const UniqueFd listener(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  sockaddr_un address = {};
  address.sun_family = AF_UNIX;
  absl::StrCat((volume / "socket").string()).copy(address.sun_path, sizeof address.sun_path - 1);
  ASSERT_EQ(::bind(listener.get(), reinterpret_cast<sockaddr*>(&address), sizeof address), 0);

  const std::string id = store->Save({.volumes = {{"v", Consistency::kGeneric}}})->snapshot_id;
  const absl::StatusOr<SnapshotMetadata> complete = store->Complete(id, {});
  ASSERT_TRUE(complete.ok()) << complete.status();
  for (const auto& entry : fs::directory_iterator(volume)) {
    fs::remove_all(entry.path());
  }
  ASSERT_TRUE(store->Verify(id).ok());
  const absl::Status restored = store->Restore({.snapshot_id = id});
  ASSERT_TRUE(restored.ok()) << restored;

  std::string content;
  std::getline(std::ifstream(volume / "folder/linked"), content);
  EXPECT_EQ(content, "content");
  std::ifstream odd_file(volume / odd);
  EXPECT_EQ(std::string(std::istreambuf_iterator<char>(odd_file), {}), odd_content);
  EXPECT_TRUE(fs::is_empty(volume / "folder/empty"));
  EXPECT_TRUE(fs::equivalent(volume / "file", volume / "folder/linked"));
  EXPECT_EQ(fs::read_symlink(volume / "folder/dangling"), "../nowhere");
  struct stat inode = {};
  ASSERT_EQ(::lstat((volume / "file").c_str(), &inode), 0);
  EXPECT_EQ(inode.st_mode & 07777, 06751u);
  EXPECT_EQ(inode.st_uid, 1234u);
  EXPECT_EQ(inode.st_gid, 4321u);
  EXPECT_EQ(inode.st_nlink, 2u);
  ASSERT_EQ(::lstat((volume / "folder/dangling").c_str(), &inode), 0);
  EXPECT_EQ(inode.st_uid, 99u);
  ASSERT_EQ(::lstat((volume / "folder").c_str(), &inode), 0);
  EXPECT_EQ(inode.st_mode & 07777, 01700u);
  char value[8] = {};
  EXPECT_EQ(::getxattr((volume / "file").c_str(), "user.colour", value, sizeof value), 3);
  EXPECT_EQ(::getxattr((volume / "file").c_str(), "trusted.more", value, sizeof value), 1);
  ASSERT_EQ(::lstat((volume / "sparse").c_str(), &inode), 0);
  EXPECT_EQ(inode.st_size, 1LL << 40);
  EXPECT_LT(inode.st_blocks, 1'000) << "the hole was filled";
  EXPECT_FALSE(Exists(volume / "fifo"));
  EXPECT_FALSE(Exists(volume / "socket"));
}

TEST_F(LargeTree, SocketsAndFifosAreLeftOutAtAnyTime) {
  const auto store = Project("p");
  const fs::path volume = Volume("p");
  fs::create_directories(volume / "run/\xff");
  std::ofstream(volume / "run/file") << "content";
  ASSERT_EQ(::mkfifo((volume / "run/\xff/fifo").c_str(), 0600), 0);
  ASSERT_EQ(::mkfifo((image_.root() / "p/current/fifo").c_str(), 0600), 0);
  const std::string id = store->Save({.volumes = {{"v", Consistency::kGeneric}}})->snapshot_id;
  const auto expect_left_out = [&](const fs::path& project) {
    EXPECT_FALSE(Exists(project / "current/volumes/v/run/\xff/fifo"));
    EXPECT_FALSE(Exists(project / "current/fifo"));
    EXPECT_TRUE(Exists(project / "current/volumes/v/run/file"));
  };
  ASSERT_TRUE(
      store->Duplicate({.target = image_.root() / "live", .target_project_id = "live"}).ok());
  expect_left_out(image_.root() / "live");
  EXPECT_TRUE(Exists(volume / "run/\xff/fifo")) << "the app's own are not ours to remove";

  ASSERT_TRUE(store->Restore({.snapshot_id = id}).ok());
  expect_left_out(image_.root() / "p");
  const absl::StatusOr<SnapshotMetadata> complete = store->Complete(id, {});
  ASSERT_TRUE(complete.ok()) << complete.status();
  EXPECT_EQ(complete->left_out, (std::vector<std::string>{"fifo", "volumes/v/run/\xff/fifo"}));
  ASSERT_TRUE(store->Verify(id).ok());
  ASSERT_TRUE(store->Restore({.snapshot_id = id}).ok());
  expect_left_out(image_.root() / "p");
  ASSERT_TRUE(
      store
          ->Duplicate(
              {.snapshot_id = id, .target = image_.root() / "copy", .target_project_id = "copy"})
          .ok());
  expect_left_out(image_.root() / "copy");
}

}  // namespace
}  // namespace vibe::state
