// vibe-logger under containerd's real shim. Needs root.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <csignal>
#include <fstream>
#include <nlohmann/json.hpp>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "base/status.h"
#include "containerd/client.h"
#include "containerd_process.h"
#include "images/images.h"
#include "logs/log_file.h"
#include "test_image.h"

namespace vibe::logs {
namespace {

using ::testing::ElementsAre;
using vibe::testing::ContainerdProcess;

constexpr char kNamespace[] = "vibe-test";
constexpr char kImage[] = "registry.test/payload:1";

class LoggerUnderShim : public ::testing::Test {
 protected:
  void SetUp() override {
    if (::geteuid() != 0) {
      GTEST_SKIP() << "needs root";
    }
    auto process = ContainerdProcess::Start();
    ASSERT_TRUE(process.ok()) << process.status();
    process_ = *std::move(process);
    client_ = std::make_unique<containerd::Client>(process_->client_options());
    images_ = std::make_unique<images::ImageStore>(*client_);
    // A name that has to be encoded in the URI.
    log_ = process_->directory() / "a log & more" / "web.log";
    std::filesystem::create_directory(log_.parent_path());
    log_uri_ = absl::StrCat("binary://", VIBE_TEST_BIN_DIR,
                            "/vibe-logger?file=", process_->directory().string(),
                            "/a%20log%20%26%20more/web.log");
  }

  absl::Status CreateContainer(const std::vector<std::string>& args) {
    vibe::testing::ImageServer server(vibe::testing::PayloadImage());
    VIBE_RETURN_IF_ERROR(images_->EnsureImage(kNamespace, kImage, server.opener(), nullptr));
    VIBE_ASSIGN_OR_RETURN(const images::InspectedImage image, images_->Inspect(kNamespace, kImage));
    VIBE_RETURN_IF_ERROR(client_
                             ->PrepareSnapshot(kNamespace, "", "c", image.chain_id,
                                               {{"containerd.io/gc.root", "true"}})
                             .status());
    const nlohmann::json spec = {
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
          {{"destination", "/dev"}, {"type", "tmpfs"}, {"source", "tmpfs"}}}},
        {"linux",
         {{"cgroupsPath", process_->cgroup() + "/c"},
          {"namespaces", {{{"type", "pid"}}, {{"type", "mount"}}, {{"type", "ipc"}}}}}}};
    return client_->CreateContainer(
        kNamespace,
        {.id = "c", .image = kImage, .snapshot_key = "c", .spec_json = spec.dump(), .labels = {}});
  }

  absl::Status StartTask() {
    VIBE_ASSIGN_OR_RETURN(const auto rootfs, client_->SnapshotMounts(kNamespace, "c"));
    VIBE_RETURN_IF_ERROR(
        client_
            ->CreateTask(kNamespace, "c", rootfs,
                         {.stdin_path = "", .stdout_uri = log_uri_, .stderr_uri = log_uri_})
            .status());
    return client_->StartTask(kNamespace, "c");
  }

  // Ends the container and waits for the shim, which waits for the logger.
  absl::Status StopTask() {
    VIBE_RETURN_IF_ERROR(client_->KillTask(kNamespace, "c", SIGTERM, false));
    VIBE_RETURN_IF_ERROR(client_->WaitTask(kNamespace, "c", absl::Seconds(20)).status());
    const absl::Time start = absl::Now();
    VIBE_RETURN_IF_ERROR(client_->DeleteTask(kNamespace, "c"));
    EXPECT_LT(absl::Now() - start, absl::Seconds(4)) << "the shim had to wait for the logger";
    return absl::OkStatus();
  }

  std::vector<std::string> Texts() const {
    std::vector<std::string> texts;
    const auto records = ReadTail(log_, 100);
    EXPECT_TRUE(records.ok()) << records.status();
    for (const Record& record : records.value_or(std::vector<Record>())) {
      texts.push_back(record.text);
    }
    return texts;
  }

  std::vector<std::string> AwaitLines(size_t count) const {
    std::vector<std::string> texts = Texts();
    for (int i = 0; i < 500 && texts.size() < count; ++i) {
      absl::SleepFor(absl::Milliseconds(20));
      texts = Texts();
    }
    return texts;
  }

  std::unique_ptr<ContainerdProcess> process_;
  std::unique_ptr<containerd::Client> client_;
  std::unique_ptr<images::ImageStore> images_;
  std::filesystem::path log_;
  std::string log_uri_;
};

TEST_F(LoggerUnderShim, HasEveryLineWhenTheTaskIsDeletedAndGoesOnWithTheNext) {
  ASSERT_TRUE(CreateContainer({"/payload", "wait"}).ok());
  absl::Status started = StartTask();
  ASSERT_TRUE(started.ok()) << started;
  EXPECT_THAT(AwaitLines(1), ElementsAre("ready"));
  absl::Status stopped = StopTask();
  ASSERT_TRUE(stopped.ok()) << stopped;
  EXPECT_THAT(Texts(), ElementsAre("ready", "terminated"));
  started = StartTask();
  ASSERT_TRUE(started.ok()) << started;
  EXPECT_THAT(AwaitLines(3), ElementsAre("ready", "terminated", "ready"));
  ASSERT_TRUE(StopTask().ok());
  EXPECT_EQ(Texts().size(), 4U);
}

TEST_F(LoggerUnderShim, MasksSecretValues) {
  const std::filesystem::path secrets = process_->directory() / "secrets";
  std::ofstream(secrets, std::ios::binary) << "terminate" << '\0';
  absl::StrAppend(&log_uri_, "&secrets=", secrets.string());
  ASSERT_TRUE(CreateContainer({"/payload", "wait"}).ok());
  const absl::Status started = StartTask();
  ASSERT_TRUE(started.ok()) << started;
  std::filesystem::remove(secrets);
  AwaitLines(1);
  ASSERT_TRUE(StopTask().ok());
  EXPECT_THAT(Texts(), ElementsAre("ready", "***d"));
}

TEST_F(LoggerUnderShim, SurvivesContainerd) {
  ASSERT_TRUE(CreateContainer({"/payload", "wait"}).ok());
  const absl::Status started = StartTask();
  ASSERT_TRUE(started.ok()) << started;
  AwaitLines(1);
  process_->Kill();
  const absl::Status restarted = process_->Restart();
  ASSERT_TRUE(restarted.ok()) << restarted;
  const absl::Status stopped = StopTask();
  ASSERT_TRUE(stopped.ok()) << stopped;
  EXPECT_THAT(Texts(), ElementsAre("ready", "terminated"));
}

}  // namespace
}  // namespace vibe::logs
