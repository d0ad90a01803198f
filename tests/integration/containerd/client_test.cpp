// The containerd client and the image store against a real containerd, which needs root.
#include "containerd/client.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <csignal>
#include <fstream>
#include <nlohmann/json.hpp>
#include <sstream>
#include <thread>

#include "absl/strings/str_cat.h"
#include "absl/synchronization/mutex.h"
#include "absl/synchronization/notification.h"
#include "absl/time/clock.h"
#include "base/status.h"
#include "base/unique_fd.h"
#include "containerd_process.h"
#include "images/images.h"
#include "test_image.h"

namespace vibe {
namespace {

using containerd::Client;
using testing::ContainerdProcess;
using ::testing::Contains;
using ::testing::HasSubstr;
using testing::ImageServer;
using ::testing::IsEmpty;
using ::testing::Not;

constexpr char kNamespace[] = "vibe-test";
constexpr char kImage[] = "registry.test/payload:1";

std::string Slurp(const std::filesystem::path& path) {
  std::ifstream file(path);
  std::stringstream text;
  text << file.rdbuf();
  return text.str();
}

class ContainerdClient : public ::testing::Test {
 protected:
  void SetUp() override {
    if (::geteuid() != 0) {
      GTEST_SKIP() << "needs root";
    }
    auto process = ContainerdProcess::Start();
    ASSERT_TRUE(process.ok()) << process.status();
    process_ = *std::move(process);
    client_ = std::make_unique<Client>(process_->client_options());
    images_ = std::make_unique<images::ImageStore>(*client_);
  }

  absl::Status Pull(ImageServer& server) {
    return images_->EnsureImage(kNamespace, kImage, server.opener(), nullptr);
  }

  // A spec with the host's network: these tests are about containerd.
  std::string Spec(const std::vector<std::string>& args) const {
    nlohmann::json spec = {
        {"ociVersion", "1.0.2"},
        {"process",
         {{"terminal", false},
          {"user", {{"uid", 0}, {"gid", 0}}},
          {"args", args},
          {"env", {"PATH=/"}},
          {"cwd", "/"}}},
        {"root", {{"path", "rootfs"}}},
        {"mounts",
         {{{"destination", "/proc"}, {"type", "proc"}, {"source", "proc"}},
          {{"destination", "/dev"},
           {"type", "tmpfs"},
           {"source", "tmpfs"},
           {"options", {"nosuid", "mode=755"}}},
          {{"destination", "/dev/pts"},
           {"type", "devpts"},
           {"source", "devpts"},
           {"options", {"newinstance", "ptmxmode=0666", "mode=0620"}}}}},
        {"linux",
         {{"cgroupsPath", process_->cgroup() + "/c"},
          {"namespaces", {{{"type", "pid"}}, {{"type", "mount"}}, {{"type", "ipc"}}}}}}};
    return spec.dump();
  }

  std::string LogUri() const {
    return absl::StrCat("binary://", VIBE_TEST_PAYLOAD, "?logger=", LogFile().string());
  }
  std::filesystem::path LogFile() const { return process_->directory() / "container.log"; }

  absl::Status StartContainer(const std::vector<std::string>& args) {
    VIBE_ASSIGN_OR_RETURN(const images::InspectedImage image, images_->Inspect(kNamespace, kImage));
    VIBE_ASSIGN_OR_RETURN(const auto rootfs,
                          client_->PrepareSnapshot(kNamespace, "", "c", image.chain_id,
                                                   {{"containerd.io/gc.root", "true"}}));
    VIBE_RETURN_IF_ERROR(client_->CreateContainer(
        kNamespace,
        {.id = "c", .image = kImage, .snapshot_key = "c", .spec_json = Spec(args), .labels = {}}));
    VIBE_RETURN_IF_ERROR(
        client_
            ->CreateTask(kNamespace, "c", rootfs,
                         {.stdin_path = "", .stdout_uri = LogUri(), .stderr_uri = LogUri()})
            .status());
    return client_->StartTask(kNamespace, "c");
  }

  void AwaitLog(const std::string& text) const {
    for (int i = 0; i < 250 && Slurp(LogFile()).find(text) == std::string::npos; ++i) {
      absl::SleepFor(absl::Milliseconds(20));
    }
    EXPECT_THAT(Slurp(LogFile()), HasSubstr(text));
  }

  std::unique_ptr<ContainerdProcess> process_;
  std::unique_ptr<Client> client_;
  std::unique_ptr<images::ImageStore> images_;
};

TEST_F(ContainerdClient, AnImageIsBroughtInOnceAndItsNamespaceLeavesNothing) {
  ImageServer server(testing::MakeImage(
      {testing::MakeTar({{"a", testing::Noise(3 << 20, 1)}}), testing::MakeTar({{"b", "two"}})}));
  ASSERT_TRUE(Pull(server).ok());
  EXPECT_EQ(process_->StoredSnapshots(), 2);
  const int transfers = server.transfers;
  ASSERT_TRUE(Pull(server).ok());
  EXPECT_EQ(server.transfers, transfers) << "an image that is there was fetched again";
  // Another project gets the blobs from the store, not from the registry.
  ASSERT_TRUE(images_->EnsureImage("vibe-other", kImage, server.opener(), nullptr).ok());
  EXPECT_EQ(server.transfers, transfers);

  EXPECT_TRUE(images_->RemoveNamespace(kNamespace).ok());
  EXPECT_TRUE(images_->Inspect("vibe-other", kImage).ok()) << "the other project lost its image";
  EXPECT_TRUE(images_->RemoveNamespace("vibe-other").ok());
  EXPECT_EQ(process_->StoredBlobs(), 0);
  EXPECT_EQ(process_->StoredSnapshots(), 0);
  const auto namespaces = client_->ListNamespaces();
  ASSERT_TRUE(namespaces.ok());
  EXPECT_THAT(*namespaces, Not(Contains(kNamespace)));
}

TEST_F(ContainerdClient, WrongBytesNeverBecomeAnImage) {
  ImageServer server(testing::PayloadImage());
  const std::string layer = server.image().layers[0].digest;
  server.instead[layer] = std::string(static_cast<size_t>(server.image().layers[0].size), 'x');
  const absl::Status status = Pull(server);
  EXPECT_TRUE(absl::IsDataLoss(status)) << status;
  EXPECT_EQ(ReasonOf(status), Reason::kImagePullFailed);
  EXPECT_TRUE(absl::IsNotFound(images_->Inspect(kNamespace, kImage).status()));
  // The next attempt is not poisoned by the first.
  server.instead.clear();
  EXPECT_TRUE(Pull(server).ok());
}

TEST_F(ContainerdClient, ABrokenTransferGoesOnWhereItStopped) {
  ImageServer server(testing::MakeImage({testing::MakeTar({{"big", testing::Noise(8 << 20, 7)}})}));
  const oci::Descriptor layer = server.image().layers[0];
  server.fail_at[layer.digest] = 5 << 20;
  EXPECT_TRUE(absl::IsUnavailable(Pull(server)));
  const int64_t first = server.bytes;
  server.fail_at.clear();
  ASSERT_TRUE(Pull(server).ok());
  EXPECT_LT(server.bytes - first, layer.size) << "all of it was fetched again";
}

TEST_F(ContainerdClient, AFullDiskIsSaidToBeFull) {
  process_.reset();
  auto process = ContainerdProcess::Start({.disk_bytes = 8 << 20});
  ASSERT_TRUE(process.ok()) << process.status();
  process_ = *std::move(process);
  client_ = std::make_unique<Client>(process_->client_options());
  images_ = std::make_unique<images::ImageStore>(*client_);
  ImageServer server(
      testing::MakeImage({testing::MakeTar({{"big", testing::Noise(16 << 20, 3)}})}));
  const absl::Status status = Pull(server);
  EXPECT_EQ(ReasonOf(status), Reason::kDiskLow) << status;
}

TEST_F(ContainerdClient, AContainerRunsIsWatchedAndGoes) {
  ImageServer server(testing::PayloadImage());
  ASSERT_TRUE(Pull(server).ok());
  absl::Mutex mutex;
  std::vector<containerd::TaskExit> exits;
  absl::Notification subscribed;
  Client::Cancellation cancellation;
  std::thread watcher([&] {
    client_
        ->WatchExits(
            cancellation, [&] { subscribed.Notify(); },
            [&](const containerd::TaskExit& exit) {
              absl::MutexLock lock(&mutex);
              exits.push_back(exit);
            })
        .IgnoreError();
  });
  subscribed.WaitForNotification();
  const absl::Status started = StartContainer({"/payload", "wait"});
  EXPECT_TRUE(started.ok()) << started;
  AwaitLog("stdout: ready");
  const auto running = client_->GetTask(kNamespace, "c");
  EXPECT_TRUE(running.ok() && running->status == containerd::TaskStatus::kRunning);
  EXPECT_TRUE(client_->KillTask(kNamespace, "c", SIGTERM, false).ok());
  EXPECT_EQ(client_->WaitTask(kNamespace, "c", absl::Seconds(10)).value_or(99), 7u);
  {
    absl::MutexLock lock(&mutex);
    const auto seen = [&] {
      mutex.AssertReaderHeld();
      return !exits.empty();
    };
    EXPECT_TRUE(mutex.AwaitWithTimeout(absl::Condition(&seen), absl::Seconds(5)));
    if (!exits.empty()) {
      EXPECT_EQ(exits[0].ns, kNamespace);
      EXPECT_EQ(exits[0].exit_code, 7u);
    }
  }
  cancellation.Cancel();
  watcher.join();
  EXPECT_TRUE(client_->DeleteTask(kNamespace, "c").ok());
  EXPECT_THAT(Slurp(LogFile()), HasSubstr("terminated")) << "deleted before the last line was out";
  EXPECT_TRUE(client_->DeleteTask(kNamespace, "c").ok()) << "what is gone is a success";
  EXPECT_TRUE(images_->RemoveNamespace(kNamespace).ok());
  EXPECT_EQ(process_->RunningShims(), 0);
}

TEST_F(ContainerdClient, AFurtherProcessHasItsOwnStreamsAndExitCode) {
  ImageServer server(testing::PayloadImage());
  ASSERT_TRUE(Pull(server).ok());
  ASSERT_TRUE(StartContainer({"/payload", "wait"}).ok());
  const std::filesystem::path out = process_->directory() / "out";
  const std::filesystem::path err = process_->directory() / "err";
  ASSERT_EQ(::mkfifo(out.c_str(), 0600), 0);
  ASSERT_EQ(::mkfifo(err.c_str(), 0600), 0);
  const UniqueFd out_end(::open(out.c_str(), O_RDWR | O_NONBLOCK));
  const UniqueFd err_end(::open(err.c_str(), O_RDWR | O_NONBLOCK));
  const std::string process =
      R"({"user":{"uid":0,"gid":0},"args":["/payload","exit","5"],"env":[],"cwd":"/"})";
  ASSERT_TRUE(client_
                  ->ExecTask(kNamespace, "c", "x", process,
                             {.stdin_path = "", .stdout_uri = out, .stderr_uri = err})
                  .ok());
  ASSERT_TRUE(client_->StartTask(kNamespace, "c", "x").ok());
  EXPECT_EQ(client_->WaitTask(kNamespace, "c", absl::Seconds(10), "x").value_or(99), 5u);
  ASSERT_TRUE(client_->DeleteExec(kNamespace, "c", "x").ok());
  char buffer[256] = {};
  EXPECT_GT(::read(out_end.get(), buffer, sizeof buffer - 1), 0);
  EXPECT_STREQ(buffer, "to stdout\n");
  EXPECT_GT(::read(err_end.get(), buffer, sizeof buffer - 1), 0);
  EXPECT_STREQ(buffer, "to stderr\n");
  EXPECT_TRUE(images_->RemoveNamespace(kNamespace).ok());
}

TEST_F(ContainerdClient, AKilledContainerdComesBackToContainersThatRan) {
  ImageServer server(testing::PayloadImage());
  ASSERT_TRUE(Pull(server).ok());
  ASSERT_TRUE(StartContainer({"/payload", "wait"}).ok());
  AwaitLog("ready");
  process_->Kill();
  const absl::Time down = absl::Now();
  EXPECT_TRUE(absl::IsUnavailable(client_->Probe(absl::Milliseconds(500)).status()));
  EXPECT_LT(absl::Now() - down, absl::Seconds(1)) << "a probe must not wait for a restart";
  // A call that is made meanwhile waits for the restart.
  absl::StatusOr<containerd::Task> task = absl::UnknownError("");
  std::thread caller([&] { task = client_->GetTask(kNamespace, "c"); });
  ASSERT_TRUE(process_->Restart().ok());
  caller.join();
  ASSERT_TRUE(task.ok()) << task.status();
  EXPECT_EQ(task->status, containerd::TaskStatus::kRunning);
  EXPECT_TRUE(client_->KillTask(kNamespace, "c", SIGTERM, false).ok());
  EXPECT_EQ(client_->WaitTask(kNamespace, "c", absl::Seconds(10)).value_or(99), 7u);
  EXPECT_TRUE(images_->RemoveNamespace(kNamespace).ok());
}

TEST_F(ContainerdClient, ALeaseKeepsWhatNothingElseRefersTo) {
  ASSERT_TRUE(client_->CreateNamespace(kNamespace, {}).ok());
  const std::string digest =
      "sha256:2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824";
  const auto lease = client_->CreateLease(kNamespace, "keep", absl::Hours(1));
  ASSERT_TRUE(lease.ok()) << lease.status();
  ASSERT_TRUE(client_->WriteBlob(kNamespace, *lease, digest, "hello", {}).ok());
  EXPECT_EQ(client_->ReadBlob(kNamespace, digest, 100).value_or(""), "hello");
  EXPECT_TRUE(client_->DeleteLease(kNamespace, *lease, true).ok());
  EXPECT_TRUE(absl::IsNotFound(client_->StatBlob(kNamespace, digest).status()));
  EXPECT_TRUE(client_->DeleteNamespace(kNamespace).ok());
}

}  // namespace
}  // namespace vibe
