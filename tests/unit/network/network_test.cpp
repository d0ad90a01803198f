#include "network/network.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <set>
#include <utility>

#include "../supervisor/golden.h"
#include "network/cni.h"

namespace vibe::network {
namespace {

TEST(AddressPool, FollowsTheAgreedRanges) {
  const AddressPool pool;
  const Subnet first = pool.SubnetOf(0);
  EXPECT_EQ(first.bridge, "vibe-0");
  EXPECT_EQ(first.ipv4_subnet, "10.64.0.0/22");
  EXPECT_EQ(first.ipv4_gateway, "10.64.0.1");
  EXPECT_EQ(first.ipv6_subnet, "fd76:6962:65::/64");
  EXPECT_EQ(first.ipv6_gateway, "fd76:6962:65::1");
  EXPECT_EQ(pool.SubnetOf(1).ipv4_subnet, "10.64.4.0/22");
  EXPECT_EQ(pool.SubnetOf(1).ipv6_subnet, "fd76:6962:65:1::/64");
  const Subnet last = pool.SubnetOf(kMaxProjects - 1);
  EXPECT_EQ(last.ipv4_subnet, "10.127.252.0/22");
  EXPECT_EQ(last.ipv6_subnet, "fd76:6962:65:fff::/64");
  EXPECT_LE(last.bridge.size(), 15U);
  EXPECT_EQ(pool.Ipv4Of(0, 0), "10.64.0.2");
  EXPECT_EQ(pool.Ipv4Of(4095, 19), "10.127.252.21");
  EXPECT_EQ(pool.Ipv6Of(16, 0), "fd76:6962:65:10::2");
  EXPECT_EQ(pool.HardwareAddressOf(1, 0), "02:76:0a:40:04:02");
  EXPECT_EQ(pool.LinkLocalOf(1, 0), "fe80::76:aff:fe40:402");
}

TEST(AddressPool, GivesFourThousandProjectsAddressesThatNobodyElseHas) {
  for (const AddressPool& pool : {AddressPool(), AddressPool::Avoiding({"10.64.0.0/10"})}) {
    std::set<std::string> seen;
    for (int project = 0; project < kMaxProjects; ++project) {
      const Subnet subnet = pool.SubnetOf(project);
      EXPECT_TRUE(seen.insert(subnet.bridge).second);
      EXPECT_TRUE(seen.insert(subnet.ipv4_gateway).second);
      EXPECT_TRUE(seen.insert(subnet.ipv6_gateway).second);
      for (int service = 0; service < 20; ++service) {
        EXPECT_TRUE(seen.insert(pool.Ipv4Of(project, service)).second);
        EXPECT_TRUE(seen.insert(pool.Ipv6Of(project, service)).second);
        EXPECT_TRUE(seen.insert(pool.HardwareAddressOf(project, service)).second);
        EXPECT_TRUE(seen.insert(pool.LinkLocalOf(project, service)).second);
      }
    }
  }
}

TEST(AddressPool, AvoidsWhatIsTaken) {
  const auto pool = [](const std::vector<std::string>& taken) {
    return AddressPool::Avoiding(taken).ipv4();
  };
  EXPECT_EQ(pool({}), "10.64.0.0/10");
  EXPECT_EQ(pool({"192.168.1.0/24", "10.0.2.0/24", "10.63.255.255/32", "10.128.0.0/9"}),
            "10.64.0.0/10");
  EXPECT_EQ(pool({"10.100.7.0/24"}), "10.128.0.0/10");
  EXPECT_EQ(pool({"10.127.255.255/32", "10.128.0.1/32"}), "10.192.0.0/10");
  EXPECT_EQ(pool({"10.0.0.0/8"}), "100.64.0.0/10");
  // Where everything is taken, one is as good as the other.
  EXPECT_EQ(pool({"10.0.0.0/8", "100.64.0.0/10"}), "10.64.0.0/10");
  // The default route is everywhere, and no range of IPv4 is none.
  EXPECT_EQ(pool({"0.0.0.0/0", "", "/", "fd00::/8", "10.64.0.0", "10.64.0.0/", "10.64.0.0/33",
                  "10.64.0.0/-1", "10.64/10", "x/8"}),
            "10.64.0.0/10");
  EXPECT_EQ(AddressPool::Avoiding({"10.64.0.0/10"}).Ipv4Of(1, 0), "10.128.4.2");
}

// This host, whose own addresses are known.
FirewallState Known(std::vector<FirewallProject> projects,
                    std::set<std::string> host = {"192.0.2.7"}) {
  return {.projects = std::move(projects), .host = std::move(host)};
}

TEST(Firewall, IsAsAgreed) {
  ExpectGolden("firewall/empty.nft", FirewallText({}, {}));
  const std::vector<FirewallProject> projects = {{.index = 4095, .services = 1, .internet = true},
                                                 {.index = 0, .services = 0},
                                                 {.index = 7, .services = 2, .internet = true}};
  const FirewallOptions uplink{.blocked4 = {"10.0.2.0/24"},
                               .blocked6 = {"fec0::/64"},
                               .uplink = "tap0",
                               .nameservers = {"10.0.2.3", "fec0::3"}};
  ExpectGolden("firewall/uplink.nft",
               FirewallText(Known(projects, {"2001:db8::7", "192.0.2.7", "198.51.100.7"}), uplink));
  ExpectGolden("firewall/host-unknown.nft", FirewallText({.projects = projects}, uplink));
  ExpectGolden("firewall/other-pool.nft",
               FirewallText(Known({{.index = 1, .services = 1}}),
                            {.pool = AddressPool::Avoiding({"10.64.0.0/10"}), .uplink = "tap0"}));
}

TEST(Firewall, ChangesNameOnlyWhatIsDifferent) {
  const FirewallProject other{.index = 1, .services = 3, .internet = true};
  const FirewallProject refused{.index = 7, .services = 2, .internet = false};
  const FirewallProject granted{.index = 7, .services = 2, .internet = true};
  const FirewallProject larger{.index = 7, .services = 3, .internet = true};
  const auto change = [](const std::vector<FirewallProject>& before,
                         const std::vector<FirewallProject>& after) {
    return FirewallChange(Known(before), Known(after), {});
  };
  EXPECT_EQ(change({other, refused}, {refused, other}), "");
  ExpectGolden("firewall/change-come.nft", change({other}, {other, granted}));
  ExpectGolden("firewall/change-gone.nft", change({granted, other}, {other}));
  EXPECT_EQ(change({refused, other}, {other, granted}),
            "add element inet vibe internet { \"vibe-7\" }\n");
  EXPECT_EQ(change({other, granted}, {other, refused}),
            "delete element inet vibe internet { \"vibe-7\" }\n");
  ExpectGolden("firewall/change-larger.nft", change({granted}, {larger}));
}

TEST(Firewall, FollowsTheHostsAddresses) {
  const std::vector<FirewallProject> some = {{.index = 1, .services = 1, .internet = true},
                                             {.index = 2, .services = 1}};
  ExpectGolden("firewall/change-host.nft",
               FirewallChange(Known(some, {"192.0.2.7", "192.0.2.8", "2001:db8::7"}),
                              Known(some, {"192.0.2.8", "198.51.100.7", "2001:db8::8"}), {}));
  EXPECT_EQ(FirewallChange(Known(some), Known(some), {}), "");
  // Its own packets are refused with the internet, so nobody is bothered for its sake.
  const std::vector<FirewallProject> none = {{.index = 2, .services = 1}};
  EXPECT_EQ(FirewallChange(Known(none), Known(none, {"198.51.100.7"}), {}), "");
}

TEST(Firewall, NobodyHasTheInternetWhileTheHostIsNotKnown) {
  const std::vector<FirewallProject> some = {{.index = 1, .internet = true}, {.index = 2}};
  EXPECT_EQ(FirewallChange({.projects = some}, Known(some), {}),
            "add element inet vibe host4 { 192.0.2.7 }\n"
            "add element inet vibe internet { \"vibe-1\" }\n");
  EXPECT_EQ(FirewallChange(Known(some), {.projects = some}, {}),
            "delete element inet vibe host4 { 192.0.2.7 }\n"
            "delete element inet vibe internet { \"vibe-1\" }\n");
  // A host without any address of its own is known all the same.
  EXPECT_EQ(FirewallChange({.projects = some}, Known(some, {}), {}),
            "add element inet vibe internet { \"vibe-1\" }\n");
  EXPECT_EQ(FirewallChange({.projects = some}, {.projects = {some[1], some[0]}}, {}), "");
}

TEST(Firewall, DoesNotDependOnTheOrderOfProjects) {
  EXPECT_EQ(FirewallText(Known({{.index = 1}, {.index = 2, .internet = true}}), {}),
            FirewallText(Known({{.index = 2, .internet = true}, {.index = 1}}), {}));
}

TEST(Firewall, HasTheSameRulesForOneProjectAndForThousands) {
  std::vector<FirewallProject> all;
  for (int index = 0; index < kMaxProjects; ++index) {
    all.push_back({.index = index, .services = 2, .internet = true});
  }
  const auto lines = [](const std::vector<FirewallProject>& projects) {
    const std::string text = FirewallText(Known(projects), {.uplink = "tap0"});
    return std::count(text.begin(), text.end(), '\n');
  };
  EXPECT_EQ(lines({{.index = 0, .services = 1, .internet = true}}), lines(all));
}

TEST(Cni, AsksForThePlannedAddresses) {
  EXPECT_EQ(
      CniConfig({.name = "vibe-1-0", .project_index = 1, .service_index = 0}),
      R"({"cniVersion":"1.0.0","name":"vibe-1","type":"bridge","bridge":"vibe-1","isGateway":true,)"
      R"("ipMasq":false,"hairpinMode":false,"runtimeConfig":{"mac":"02:76:0a:40:04:02"},"ipam":{"type":"static","addresses":[)"
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
