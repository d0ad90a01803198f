#include "network/network.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <set>

#include "../supervisor/golden.h"
#include "network/cni.h"

namespace vibe::network {
namespace {

TEST(AddressPlan, FollowsTheAgreedRanges) {
  const Subnet first = SubnetOf(0);
  EXPECT_EQ(first.bridge, "vibe-0");
  EXPECT_EQ(first.ipv4_subnet, "10.64.0.0/22");
  EXPECT_EQ(first.ipv4_gateway, "10.64.0.1");
  EXPECT_EQ(first.ipv6_subnet, "fd76:6962:65::/64");
  EXPECT_EQ(first.ipv6_gateway, "fd76:6962:65::1");
  EXPECT_EQ(SubnetOf(1).ipv4_subnet, "10.64.4.0/22");
  EXPECT_EQ(SubnetOf(1).ipv6_subnet, "fd76:6962:65:1::/64");
  const Subnet last = SubnetOf(kMaxProjects - 1);
  EXPECT_EQ(last.ipv4_subnet, "10.127.252.0/22");
  EXPECT_EQ(last.ipv6_subnet, "fd76:6962:65:fff::/64");
  EXPECT_LE(last.bridge.size(), 15U);
  EXPECT_EQ(Ipv4Of(0, 0), "10.64.0.2");
  EXPECT_EQ(Ipv4Of(4095, 19), "10.127.252.21");
  EXPECT_EQ(Ipv6Of(16, 0), "fd76:6962:65:10::2");
}

TEST(AddressPlan, GivesNoAddressTwice) {
  std::set<std::string> seen;
  for (int project = 0; project < kMaxProjects; ++project) {
    EXPECT_TRUE(seen.insert(SubnetOf(project).ipv4_gateway).second);
    EXPECT_TRUE(seen.insert(SubnetOf(project).ipv6_gateway).second);
    for (int service = 0; service < 20; ++service) {
      EXPECT_TRUE(seen.insert(Ipv4Of(project, service)).second);
      EXPECT_TRUE(seen.insert(Ipv6Of(project, service)).second);
    }
  }
}

TEST(Firewall, IsAsAgreed) {
  ExpectGolden("firewall/empty.nft", FirewallText({}, {}));
  ExpectGolden("firewall/uplink.nft", FirewallText({{.index = 4095, .internet = true},
                                                    {.index = 0},
                                                    {.index = 7, .internet = true}},
                                                   {.blocked4 = {"10.0.2.0/24"},
                                                    .blocked6 = {"fec0::/64"},
                                                    .uplink = "tap0",
                                                    .nameservers = {"10.0.2.3", "fec0::3"}}));
}

TEST(Firewall, DoesNotDependOnTheOrderOfProjects) {
  EXPECT_EQ(FirewallText({{.index = 1}, {.index = 2, .internet = true}}, {}),
            FirewallText({{.index = 2, .internet = true}, {.index = 1}}, {}));
}

TEST(Firewall, HasTheSameRulesForOneProjectAndForThousands) {
  std::vector<FirewallProject> all;
  for (int index = 0; index < kMaxProjects; ++index) {
    all.push_back({.index = index, .internet = true});
  }
  const auto lines = [](const std::string& text) {
    return std::count(text.begin(), text.end(), '\n');
  };
  EXPECT_EQ(lines(FirewallText({{.index = 0, .internet = true}}, {.uplink = "tap0"})),
            lines(FirewallText(all, {.uplink = "tap0"})));
}

TEST(Cni, AsksForThePlannedAddresses) {
  EXPECT_EQ(
      CniConfig({.name = "vibe-1-0", .project_index = 1, .service_index = 0}),
      R"({"cniVersion":"1.0.0","name":"vibe-1","type":"bridge","bridge":"vibe-1","isGateway":true,)"
      R"("ipMasq":false,"hairpinMode":false,"ipam":{"type":"static","addresses":[)"
      R"({"address":"10.64.4.2/22","gateway":"10.64.4.1"},)"
      R"({"address":"fd76:6962:65:1::2/64","gateway":"fd76:6962:65:1::1"}],)"
      R"("routes":[{"dst":"0.0.0.0/0"},{"dst":"::/0"}]}})");
}

TEST(Cni, NoticesAnAddressThatWasNotGiven) {
  const Endpoint endpoint{.name = "a", .project_index = 0, .service_index = 0};
  EXPECT_TRUE(CheckCniResult(R"({"ips":[{"address":"10.64.0.2/22"},
                                        {"address":"fd76:6962:65::2/64"}]})",
                             endpoint)
                  .ok());
  for (const char* result : {"", "[]", "{}", R"({"ips":7})", R"({"ips":[7]})",
                             R"({"ips":[{"address":"10.64.0.2/22"}]})"}) {
    EXPECT_FALSE(CheckCniResult(result, endpoint).ok()) << result;
  }
}

TEST(Cni, PassesOnWhatThePluginSaid) {
  EXPECT_EQ(CniErrorMessage(R"({"code":7,"msg":"no bridge","details":"kernel says no"})"),
            "no bridge: kernel says no");
  EXPECT_EQ(CniErrorMessage(R"({"code":7,"msg":"no bridge"})"), "no bridge");
  EXPECT_EQ(CniErrorMessage("panic: oh\n"), "panic: oh");
  EXPECT_LE(CniErrorMessage(std::string(100'000, 'x')).size(), 500U);
}

}  // namespace
}  // namespace vibe::network
