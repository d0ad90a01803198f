// Secrets around saves and restores, at the only door that they come in by: StartProject.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <csignal>
#include <filesystem>
#include <fstream>
#include <iterator>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "base/random.h"
#include "base/status.h"
#include "machine_test.h"

namespace vibe {
namespace {

using ::testing::AllOf;
using ::testing::Contains;
using ::testing::HasSubstr;
using ::testing::Not;

constexpr char kSecret[] = "hunter22-is-a-secret";

// `payload id` prints the variable MODE. The manifest has a value of its own for PLAIN, which a
// secret that was not given must not lose.
constexpr char kManifest[] =
    R"({"kind":"vibe.app/v1","id":"com.example.test","name":"Test","version":"1.0.0",)"
    R"("services":[{"name":"web","image":"payload:1","command":["/payload","wait"],)"
    R"("env":{"PLAIN":"from the manifest"},)"
    R"("hooks":{"preSave":{"command":["/payload","id","7"]},)"
    R"("postRestore":{"command":["/payload","id"]}}}],)"
    R"("secrets":[{"name":"MODE","required":true},{"name":"PLAIN"},{"name":"UNSET"}]})";

class SecretsTest : public testing::MachineTest {
 protected:
  void SetUp() override {
    MachineTest::SetUp();
    if (!IsReady()) {
      return;
    }
    const auto ensured = machine_->Ensure(id_, "secretive", kManifest, package_);
    ASSERT_TRUE(ensured.ok()) << ensured.status();
    ASSERT_TRUE(machine_->Open(id_).ok());
    EXPECT_EQ(ReasonOf(machine_->StartProject(id_).status()), Reason::kMissingSecret);
    const auto started = machine_->StartProject(id_, nullptr, {{"MODE", kSecret}});
    ASSERT_TRUE(started.ok()) << started.status();
  }

  // What a program in the service sees.
  std::string Environment() {
    grpc::ClientContext context;
    const auto stream = machine_->stub().Exec(&context);
    v1::ExecRequest request;
    request.mutable_start()->set_id(id_);
    for (const char* word : {"/payload", "read", "/proc/self/environ"}) {
      request.mutable_start()->add_command(word);
    }
    stream->Write(request);
    std::string text;
    v1::ExecResponse response;
    while (stream->Read(&response)) {
      text += response.stdout();
    }
    stream->Finish();
    return text;
  }

  std::string Save() {
    v1::SaveSnapshotRequest request;
    request.set_id(id_);
    request.set_skip_hooks(true);
    const auto saved = machine_->Save(request);
    EXPECT_TRUE(saved.ok()) << saved.status();
    return saved.ok() ? saved->snapshot_id() : "";
  }

  absl::Status Restore(const std::string& snapshot) {
    v1::RestoreSnapshotRequest request;
    request.set_id(id_);
    request.set_snapshot_id(snapshot);
    const auto restored = machine_->Restore(request);
    if (restored.ok()) {
      EXPECT_EQ(restored->project().status(), v1::STATUS_RUNNING);
    }
    return restored.status();
  }

  const std::string id_ = RandomUuid();
};

TEST_F(SecretsTest, AnAppThatIsRestoredKeepsItsSecrets) {
  const auto as_given = AllOf(HasSubstr(absl::StrCat("MODE=", kSecret)),
                              HasSubstr("PLAIN=from the manifest"), Not(HasSubstr("UNSET=")));
  EXPECT_THAT(Environment(), as_given);
  const std::string saved = Save();
  const absl::Status restored = Restore(saved);
  ASSERT_TRUE(restored.ok()) << restored;
  EXPECT_THAT(Environment(), as_given) << "the app runs without its secret";

  // A supervisor that was not there when they were given.
  machine_->KillSupervisor(SIGKILL);
  ASSERT_TRUE(machine_->StartSupervisor().ok());
  const absl::Status again = Restore(saved);
  ASSERT_TRUE(again.ok()) << again;
  EXPECT_THAT(Environment(), as_given);

  for (const auto& entry :
       std::filesystem::recursive_directory_iterator(machine_->DataDirectory())) {
    if (entry.is_regular_file()) {
      std::ifstream file(entry.path(), std::ios::binary);
      const std::string text((std::istreambuf_iterator<char>(file)), {});
      EXPECT_FALSE(absl::StrContains(text, kSecret)) << "it is in " << entry.path();
    }
  }
}

TEST_F(SecretsTest, ACopyHasNoneOfThem) {
  grpc::ClientContext context;
  v1::DuplicateProjectRequest request;
  request.set_id(id_);
  request.set_new_id(RandomUuid());
  request.set_new_name("copy");
  request.set_snapshot_id(Save());
  const auto reader = machine_->stub().DuplicateProject(&context, request);
  v1::DuplicateProjectResponse response;
  while (reader->Read(&response)) {
  }
  ASSERT_TRUE(reader->Finish().ok());
  EXPECT_FALSE(response.project().grants().network());
  EXPECT_FALSE(response.project().grants().expose_ports()) << "what was allowed was copied";
  ASSERT_TRUE(machine_->Open(request.new_id()).ok());
  const absl::Status started = machine_->StartProject(request.new_id()).status();
  EXPECT_EQ(ReasonOf(started), Reason::kMissingSecret) << started;
}

TEST_F(SecretsTest, AHookHasThemAndDoesNotTellThem) {
  v1::SaveSnapshotRequest request;
  request.set_id(id_);
  const absl::Status status = machine_->Save(request).status();
  EXPECT_EQ(ReasonOf(status), Reason::kSaveFailed) << status;
  EXPECT_EQ(ServiceOf(status), "web");
  EXPECT_THAT(std::string(status.message()), HasSubstr("ended with exit code 7"));
  EXPECT_THAT(LogOf(status), Contains(HasSubstr("***"))) << "the hook did not see the secret";
  EXPECT_THAT(LogOf(status), Not(Contains(HasSubstr(kSecret))));
}

}  // namespace
}  // namespace vibe
