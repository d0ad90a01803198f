// A disk that is full: of data, and of btrfs's own records while there is room for data. What takes
// space is refused while the file system can still be written, and nothing is another for it.
#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <functional>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "base/random.h"
#include "base/status.h"
#include "base/unique_fd.h"
#include "machine_test.h"
#include "rpc/status.h"
#include "state/subvolume.h"

namespace vibe {
namespace {

namespace fs = std::filesystem;
using ::testing::HasSubstr;

constexpr uint64_t kMiB = 1 << 20;

std::string Manifest(const std::string& version, const std::string& state = "") {
  return absl::StrCat(R"({"kind":"vibe.app/v1","id":"com.example.test","name":"Test","version":")",
                      version,
                      R"(","services":[{"name":"web","image":"payload:1",)"
                      R"("command":["/payload","wait"],"stateVolumes":["files:/files"]}],)"
                      R"("state":{)",
                      state, R"("volumes":[{"name":"files"}]}})");
}

bool Eventually(const std::function<bool()>& predicate) {
  const absl::Time deadline = absl::Now() + absl::Seconds(30);
  while (!predicate() && absl::Now() < deadline) {
    absl::SleepFor(absl::Milliseconds(50));
  }
  return predicate();
}

class DiskTest : public testing::MachineTest {
 protected:
  void SetUp() override {
    if (::geteuid() != 0) {
      GTEST_SKIP() << "needs root";
    }
    auto machine = testing::SupervisorMachine::Start(
        {.disk_bytes = 256 * kMiB, .network = true, .btrfs = true});
    ASSERT_TRUE(machine.ok()) << machine.status();
    machine_ = *std::move(machine);
    auto package = machine_->ImportPayload();
    ASSERT_TRUE(package.ok()) << package.status();
    package_ = *std::move(package);
  }

  absl::Status Ensure(const std::string& manifest) {
    return machine_->Ensure(id_, "full", manifest, package_).status();
  }

  absl::Status Save() {
    v1::SaveSnapshotRequest request;
    request.set_id(id_);
    return machine_->Save(request).status();
  }

  absl::Status Restore(const std::string& snapshot, bool safety) {
    v1::RestoreSnapshotRequest request;
    request.set_id(id_);
    request.set_snapshot_id(snapshot);
    request.set_skip_safety_snapshot(!safety);
    return machine_->Restore(request).status();
  }

  absl::Status Duplicate(const std::string& new_id) {
    grpc::ClientContext context;
    v1::DuplicateProjectRequest request;
    request.set_id(id_);
    request.set_new_id(new_id);
    request.set_new_name("copy");
    const auto reader = machine_->stub().DuplicateProject(&context, request);
    v1::DuplicateProjectResponse response;
    while (reader->Read(&response)) {
    }
    return rpc::FromGrpc(reader->Finish());
  }

  // Of the snapshots, newest first.
  std::vector<v1::Snapshot> Snapshots() {
    grpc::ClientContext context;
    v1::ListSnapshotsRequest request;
    request.set_id(id_);
    v1::ListSnapshotsResponse response;
    EXPECT_TRUE(machine_->stub().ListSnapshots(&context, request, &response).ok());
    return {response.snapshots().begin(), response.snapshots().end()};
  }

  fs::path Volume() {
    return machine_->DataDirectory() / "projects" / id_ / "current/volumes/files";
  }

  UniqueFd Disk() {
    return UniqueFd(::open(machine_->DataDirectory().c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  }

  void Write(const std::string& text) {
    fs::create_directories(Volume());
    std::ofstream(Volume() / "file") << text;
    ASSERT_TRUE(state::CommitFilesystem(Disk().get()).ok());
  }

  std::string Read() {
    std::ifstream file(Volume() / "file");
    return {std::istreambuf_iterator<char>(file), {}};
  }

  const std::string id_ = RandomUuid();
};

TEST_F(DiskTest, WhateverTakesSpaceIsRefusedAndLeavesAllAsItWas) {
  ASSERT_TRUE(Ensure(Manifest("1.0.0")).ok());
  ASSERT_TRUE(machine_->Open(id_).ok());
  Write("saved");
  const absl::Status saved = Save();
  ASSERT_TRUE(saved.ok()) << saved;
  const std::string snapshot = Snapshots().at(0).snapshot_id();
  Write("later");

  const fs::path filler = machine_->DataDirectory() / "filler";
  {
    std::ofstream file(filler, std::ios::binary);
    const std::string block(64 << 10, 'x');
    while (file.write(block.data(), static_cast<std::streamsize>(block.size())).flush()) {
    }
  }
  fs::resize_file(filler, fs::file_size(filler) - (700 << 10));
  ASSERT_TRUE(state::CommitFilesystem(Disk().get()).ok());

  const std::string copy = RandomUuid();
  EXPECT_EQ(ReasonOf(Save()), Reason::kDiskLow);
  EXPECT_EQ(ReasonOf(machine_->Open(id_).status()), Reason::kDiskLow);
  EXPECT_EQ(ReasonOf(Restore(snapshot, /*safety=*/true)), Reason::kDiskLow);
  const absl::Status duplicated = Duplicate(copy);
  EXPECT_EQ(ReasonOf(duplicated), Reason::kDiskLow) << duplicated;
  EXPECT_TRUE(absl::IsNotFound(machine_->Get(copy).status()));
  EXPECT_FALSE(fs::exists(machine_->DataDirectory() / "projects" / copy));
  const absl::Status upgraded = Ensure(Manifest("2.0.0"));
  EXPECT_EQ(ReasonOf(upgraded), Reason::kDiskLow) << upgraded;
  EXPECT_THAT(std::string(upgraded.message()), HasSubstr("2.0.0 does not replace 1.0.0"));
  EXPECT_EQ(machine_->Get(id_)->app_version(), "1.0.0");

  // The same version, which now wants autosaves: there is something to save, and no room for it.
  const absl::Status autosaving =
      Ensure(Manifest("1.0.0", R"("autosave":true,"autosaveDebounceSeconds":1,)"));
  ASSERT_TRUE(autosaving.ok()) << autosaving;
  EXPECT_TRUE(Eventually([&] {
    return absl::StrContains(machine_->log(), "autosave: ") &&
           absl::StrContains(machine_->log(), "is almost full");
  })) << "nobody is told of an autosave that is not made";
  EXPECT_EQ(Snapshots().size(), 1u);
  EXPECT_EQ(Read(), "later");

  // What frees space is not refused.
  const absl::Status restored = Restore(snapshot, /*safety=*/false);
  EXPECT_TRUE(restored.ok()) << restored;
  EXPECT_EQ(Read(), "saved");
  fs::remove(filler);
  Write("there is room again");
  EXPECT_TRUE(Eventually([&] { return Snapshots().size() == 2; })) << "no autosave any more";
  EXPECT_EQ(Snapshots().at(0).reason(), "autosave");
  EXPECT_TRUE(Duplicate(copy).ok());
  EXPECT_TRUE(machine_->Delete(copy).ok());
}

// A machine that starts is asked whether it is well: the answer is why it is not.
TEST_F(DiskTest, ASupervisorWithoutRoomForItsDatabaseSaysSo) {
  ASSERT_TRUE(Ensure(Manifest("1.0.0")).ok());
  machine_->KillSupervisor(SIGTERM);
  fs::remove_all(machine_->DataDirectory() / "reserve");  // apps have taken what was given up
  const fs::path filler = machine_->DataDirectory() / "filler";
  for (const int size : {1 << 20, 4096, 4096}) {
    std::ofstream file(filler, std::ios::binary | std::ios::app);
    const std::string block(size, 'x');
    while (file.write(block.data(), size).flush()) {
    }
    ASSERT_TRUE(state::CommitFilesystem(Disk().get()).ok());
  }
  const absl::Status full = machine_->StartSupervisor();
  EXPECT_THAT(std::string(full.message()),
              HasSubstr("does not come up: the machine's disk is full: give it a larger \"disk\" "
                        "in machine.json"));
  fs::remove(filler);
  ASSERT_TRUE(state::CommitFilesystem(Disk().get()).ok());
  ASSERT_TRUE(machine_->StartSupervisor().ok());
  EXPECT_EQ(machine_->Get(id_)->name(), "full");
}

// Files of a few bytes lie in btrfs's records: those fill, with room for data left. A file system
// that runs out of them in the middle of a commit turns read-only, and takes every app along.
TEST_F(DiskTest, ADiskWithoutRoomForItsOwnRecordsRefusesSavesInTime) {
  ASSERT_TRUE(Ensure(Manifest("1.0.0")).ok());
  ASSERT_TRUE(machine_->Open(id_).ok());
  Write("saved");
  {
    // The records cannot grow into what is data's.
    const UniqueFd file(
        ::open((machine_->DataDirectory() / "data").c_str(), O_WRONLY | O_CREAT | O_CLOEXEC, 0600));
    const state::FilesystemSpace space = state::GetFilesystemSpace(Disk().get()).value();
    ASSERT_EQ(::posix_fallocate(file.get(), 0, static_cast<off_t>(space.available - 30 * kMiB)), 0);
  }
  constexpr int kRounds = 400, kFilesOfRound = 400;
  const fs::path tiny = machine_->DataDirectory() / "tiny";
  fs::create_directories(tiny);
  const std::string content(1'800, 'r');
  int files = 0;
  const auto fill = [&](absl::Time until) {
    for (int i = 0; i < kFilesOfRound && absl::Now() < until; ++i) {
      std::ofstream file(tiny / absl::StrCat(files++), std::ios::binary);
      if (!(file << content).flush()) {
        return false;
      }
    }
    return true;
  };
  absl::Status refused;
  for (int round = 0; round < kRounds && refused.ok(); ++round) {
    ASSERT_TRUE(fill(absl::InfiniteFuture())) << "it was full before a save was refused";
    ASSERT_TRUE(state::CommitFilesystem(Disk().get()).ok());
    refused = Save();
  }
  ASSERT_EQ(ReasonOf(refused), Reason::kDiskLow) << refused;
  const state::FilesystemSpace space = state::GetFilesystemSpace(Disk().get()).value();
  EXPECT_THAT(std::string(refused.message()), HasSubstr("file system's own records"));
  EXPECT_GT(space.MetadataAvailable(), 0u);
  EXPECT_EQ(ReasonOf(machine_->Open(id_).status()), Reason::kDiskLow);

  // Also when apps fill the rest, all can be read, deleted and then written again. The last files
  // take ever longer.
  const absl::Time until = absl::Now() + absl::Seconds(4);
  while (absl::Now() < until && fill(until)) {
  }
  EXPECT_EQ(ReasonOf(Save()), Reason::kDiskLow);
  struct statvfs disk = {};
  ASSERT_EQ(::statvfs(machine_->DataDirectory().c_str(), &disk), 0);
  EXPECT_EQ(disk.f_flag & ST_RDONLY, 0u) << "the file system turned read-only";
  EXPECT_EQ(Read(), "saved");
  std::error_code error;
  fs::remove_all(tiny, error);
  ASSERT_FALSE(error) << error.message();
  EXPECT_TRUE(Eventually([&] { return Save().ok(); })) << Save();
  Write("goes on");
  EXPECT_EQ(Read(), "goes on");
}

}  // namespace
}  // namespace vibe
