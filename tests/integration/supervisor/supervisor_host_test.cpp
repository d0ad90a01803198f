// What the host says of its own network, as the kernel's firewall has it.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <csignal>

#include "absl/strings/str_cat.h"
#include "base/random.h"
#include "base/status.h"
#include "machine_test.h"
#include "rpc/status.h"

namespace vibe {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::Not;

constexpr char kManifest[] =
    R"({"kind":"vibe.app/v1","id":"com.example.test","name":"Test","version":"1.0.0",)"
    R"("security":{"network":true},)"
    R"("services":[{"name":"web","image":"payload:1","command":["/payload","wait"]}]})";

class HostTest : public testing::MachineTest {
 protected:
  void SetUp() override {
    MachineTest::SetUp();
    if (!IsReady()) {
      return;
    }
    ASSERT_TRUE(machine_->Ensure(id_, "online", kManifest, package_).ok());
    ASSERT_TRUE(machine_->Open(id_).ok());
    grpc::ClientContext context;
    v1::SetGrantsRequest request;
    request.set_id(id_);
    request.mutable_grants()->set_network(true);
    v1::SetGrantsResponse response;
    ASSERT_TRUE(machine_->stub().SetGrants(&context, request, &response).ok());
  }

  absl::Status Say(const v1::SetHostNetworkRequest& request) {
    grpc::ClientContext context;
    v1::SetHostNetworkResponse response;
    return rpc::FromGrpc(machine_->stub().SetHostNetwork(&context, request, &response));
  }
  absl::Status Say(const std::vector<std::string>& addresses,
                   const std::vector<std::string>& ranges = {}) {
    v1::SetHostNetworkRequest request;
    request.mutable_network()->mutable_addresses()->Add(addresses.begin(), addresses.end());
    request.mutable_network()->mutable_ranges()->Add(ranges.begin(), ranges.end());
    return Say(request);
  }

  // A set of the tables, as nft lists it.
  std::string Listed(const std::string& set) {
    const std::string rules = machine_->Traces()["firewall"];
    const size_t begin = rules.find(absl::StrCat("\tset ", set, " {\n"));
    return begin == std::string::npos ? rules
                                      : rules.substr(begin, rules.find("\n\t}", begin) - begin);
  }

  void RestartSupervisor() {
    machine_->KillSupervisor(SIGKILL);
    const absl::Status up = machine_->StartSupervisor();
    ASSERT_TRUE(up.ok()) << up;
  }

  const std::string id_ = RandomUuid();
};

TEST_F(HostTest, NobodyHasTheInternetUnlessTheHostsAddressesAreKnown) {
  const auto online = HasSubstr("\"vibe-");
  ASSERT_TRUE(machine_->StartProject(id_).ok()) << "a host that says nothing keeps no app down";
  EXPECT_THAT(Listed("internet"), Not(online));

  ASSERT_TRUE(Say({"192.0.2.7", "2001:db8::7"}).ok());
  EXPECT_THAT(Listed("internet"), online);
  EXPECT_THAT(Listed("host4"), HasSubstr("{ 192.0.2.7 }"));
  EXPECT_THAT(Listed("host6"), HasSubstr("{ 2001:db8::7 }"));
  ASSERT_TRUE(Say({"192.0.2.8"}).ok());
  EXPECT_THAT(Listed("host4"), HasSubstr("{ 192.0.2.8 }"));
  EXPECT_THAT(Listed("host6"), Not(HasSubstr("elements")));

  // A supervisor that was killed is followed by one that knows it from the start.
  RestartSupervisor();
  EXPECT_THAT(Listed("internet"), online);
  EXPECT_THAT(Listed("host4"), HasSubstr("{ 192.0.2.8 }"));

  for (const std::string nonsense : {"", "192.0.2.9/24", "192.0.2.9 }\nflush ruleset\n"}) {
    EXPECT_TRUE(absl::IsInvalidArgument(Say({"192.0.2.9", nonsense}))) << nonsense;
    EXPECT_THAT(Listed("internet"), Not(online)) << nonsense;
    ASSERT_TRUE(Say({"192.0.2.8"}).ok());
    EXPECT_THAT(Listed("internet"), online);
  }

  ASSERT_TRUE(Say(v1::SetHostNetworkRequest()).ok());
  EXPECT_THAT(Listed("internet"), Not(online));
  RestartSupervisor();
  EXPECT_THAT(Listed("internet"), Not(online)) << "what was to be forgotten came back";
}

TEST_F(HostTest, ProjectsGetNoAddressesThatTheHostUsesAndKeepThoseThatTheyHave) {
  ASSERT_TRUE(Say({"10.100.0.7"}, {"10.100.0.0/16"}).ok());
  ASSERT_TRUE(machine_->StartProject(id_).ok());
  const auto theirs = AllOf(HasSubstr("10.128.0.2"), Not(HasSubstr("10.64.0.2")));
  EXPECT_THAT(Listed("sources4"), theirs);
  // The host comes into another network while they run.
  ASSERT_TRUE(Say({"10.128.0.7"}, {"10.128.0.0/16"}).ok());
  EXPECT_THAT(Listed("sources4"), theirs);
  RestartSupervisor();
  EXPECT_THAT(Listed("sources4"), theirs);
}

}  // namespace
}  // namespace vibe
