// What all hypervisors share: the guest's size, its kernel's command line, its disk and its image.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <map>

#include "base/status.h"
#include "vm/data_disk.h"
#include "vm/guest_image.h"
#include "vm/guest_options.h"

namespace vibe::vm {
namespace {

namespace fs = std::filesystem;
using ::testing::HasSubstr;

class GuestFilesTest : public ::testing::Test {
 protected:
  void SetUp() override {
    std::string pattern = ::testing::TempDir() + "guest-XXXXXX";
    ASSERT_NE(::mkdtemp(pattern.data()), nullptr);
    folder_ = pattern;
  }
  void TearDown() override { fs::remove_all(folder_); }
  fs::path folder_;
};

absl::StatusOr<GuestWishes> Wishes(absl::string_view settings,
                                   std::map<std::string, std::string> environment = {}) {
  return ParseGuestWishes(settings, [&](const char* name) { return environment[name]; });
}

TEST(GuestOptionsTest, DefaultsLeaveTheHostHalfOfItsMemory) {
  EXPECT_EQ(DefaultGuestOptions(4, 6000, false),
            (GuestOptions{.cpus = 4, .memory_mib = 3000, .disk_mib = 65536}));
  EXPECT_EQ(DefaultGuestOptions(64, 256 << 10, false).memory_mib, 4096u);
  EXPECT_EQ(DefaultGuestOptions(64, 256 << 10, false).cpus, 8u);
  EXPECT_EQ(DefaultGuestOptions(0, 0, false),
            (GuestOptions{.cpus = 1, .memory_mib = 1024, .disk_mib = 65536}));
  EXPECT_EQ(DefaultGuestOptions(16, 64 << 10, true),
            (GuestOptions{.cpus = 2, .memory_mib = 2048, .disk_mib = 65536}));
}

TEST(GuestOptionsTest, SizesAreRead) {
  EXPECT_EQ(ParseMebibytes("2GiB").value(), 2048u);
  EXPECT_EQ(ParseMebibytes(" 3g ").value(), 3072u);
  EXPECT_EQ(ParseMebibytes("700m").value(), 700u);
  EXPECT_EQ(ParseMebibytes("512").value(), 512u);
  EXPECT_EQ(ParseMebibytes("1TiB").value(), 1u << 20);
  for (const char* wrong :
       {"", "GiB", "1.5GiB", "-1", "1KiB", "2 apples", "99999999999999999999"}) {
    EXPECT_THAT(std::string(ParseMebibytes(wrong).status().message()), HasSubstr(wrong));
  }
}

TEST(GuestOptionsTest, TheEnvironmentGoesBeforeTheSettings) {
  const auto wishes =
      Wishes(R"({"cpus": 2, "memory": "3GiB", "disk": 2048})", {{"VIBE_MACHINE_MEMORY", "1GiB"}});
  ASSERT_TRUE(wishes.ok()) << wishes.status();
  EXPECT_EQ(wishes->cpus, 2u);
  EXPECT_EQ(wishes->memory_mib, 1024u);
  EXPECT_EQ(wishes->disk_mib, 2048u);
  EXPECT_FALSE(Wishes("").value().cpus.has_value());
}

TEST(GuestOptionsTest, WrongSettingsAreRefusedByName) {
  EXPECT_FALSE(Wishes("{").ok());
  EXPECT_FALSE(Wishes("[]").ok());
  EXPECT_THAT(std::string(Wishes(R"({"ram": 1})").status().message()), HasSubstr("\"ram\""));
  EXPECT_FALSE(Wishes(R"({"cpus": "many"})").ok());
  EXPECT_FALSE(Wishes(R"({"memory": {}})").ok());
}

TEST(GuestOptionsTest, WhatNoGuestRunsWithIsRefused) {
  EXPECT_TRUE(ApplyWishes({}, {.cpus = 4, .memory_mib = 512, .disk_mib = 1024}, 4).ok());
  EXPECT_FALSE(ApplyWishes({}, {.cpus = 5, .memory_mib = {}, .disk_mib = {}}, 4).ok());
  EXPECT_FALSE(ApplyWishes({}, {.cpus = 0, .memory_mib = {}, .disk_mib = {}}, 4).ok());
  EXPECT_FALSE(ApplyWishes({}, {.cpus = {}, .memory_mib = 100, .disk_mib = {}}, 4).ok());
  EXPECT_FALSE(ApplyWishes({}, {.cpus = {}, .memory_mib = {}, .disk_mib = 1}, 4).ok());
}

TEST(KernelCommandLineTest, SaysWhatTheGuestNeedsToKnow) {
  EXPECT_EQ(KernelCommandLine({.console = "ttyS0",
                               .uplink = "slirp",
                               .data_disk = "",
                               .listen = {"vsock:1024"},
                               .forward = {"vsock:1025"}}),
            "console=ttyS0 quiet panic=-1 vibe.net=slirp vibe.listen=vsock:1024 "
            "vibe.forward=vsock:1025");
  EXPECT_EQ(
      KernelCommandLine(
          {.console = "hvc0", .uplink = "dhcp", .data_disk = "vda", .listen = {}, .forward = {}}),
      "console=hvc0 quiet panic=-1 vibe.net=dhcp vibe.data=vda");
}

TEST_F(GuestFilesTest, ANewDataDiskTakesNoSpace) {
  const fs::path disk = folder_ / "data.img";
  ASSERT_TRUE(PrepareDataDisk(disk, uint64_t{64} << 30).ok());
  const auto use = UseOfDataDisk(disk);
  ASSERT_TRUE(use.ok()) << use.status();
  EXPECT_EQ(use->bytes, uint64_t{64} << 30);
  EXPECT_LT(use->allocated, 1u << 20);
  struct stat info {};
  ASSERT_EQ(::stat(disk.c_str(), &info), 0);
  EXPECT_EQ(info.st_mode & 0777, 0600u);
}

TEST_F(GuestFilesTest, ADataDiskGrowsAndKeepsWhatItHas) {
  const fs::path disk = folder_ / "data.img";
  std::ofstream(disk) << "a user's data";
  ASSERT_TRUE(PrepareDataDisk(disk, 1 << 20).ok());
  EXPECT_EQ(UseOfDataDisk(disk)->bytes, 1u << 20);
  ASSERT_TRUE(PrepareDataDisk(disk, 4096).ok());
  EXPECT_EQ(UseOfDataDisk(disk)->bytes, 1u << 20) << "a data disk was cut off";
  std::string start(13, '\0');
  std::ifstream(disk).read(start.data(), 13);
  EXPECT_EQ(start, "a user's data");
}

TEST_F(GuestFilesTest, WhatIsNoFileIsNoDataDisk) {
  fs::create_directory(folder_ / "folder");
  EXPECT_FALSE(PrepareDataDisk(folder_ / "folder", 4096).ok());
  ASSERT_EQ(::mkfifo((folder_ / "pipe").c_str(), 0600), 0);
  EXPECT_TRUE(absl::IsFailedPrecondition(PrepareDataDisk(folder_ / "pipe", 4096)));
  EXPECT_TRUE(absl::IsNotFound(UseOfDataDisk(folder_ / "none").status()));
}

TEST_F(GuestFilesTest, AnImageIsFoundWhereBothFilesAre) {
  fs::create_directories(folder_ / "a");
  fs::create_directories(folder_ / "b");
  std::ofstream(folder_ / "a" / "kernel") << "k";
  const auto missing = FindGuestImage({folder_ / "a", folder_ / "b"});
  EXPECT_TRUE(absl::IsNotFound(missing.status()));
  EXPECT_THAT(AdviceOf(missing.status()), HasSubstr("make bundle-vm"));
  std::ofstream(folder_ / "b" / "kernel") << "k";
  std::ofstream(folder_ / "b" / "initrd") << "i";
  EXPECT_EQ(FindGuestImage({folder_ / "a", folder_ / "b"})->initrd, folder_ / "b" / "initrd");
}

}  // namespace
}  // namespace vibe::vm
