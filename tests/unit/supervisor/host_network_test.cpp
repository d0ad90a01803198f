// What the supervisor takes of what the host says of its network, and what it remembers.
#include "supervisor/host_network.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>

#include "base/file.h"
#include "base/random.h"

namespace vibe::supervisor {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;
using ::testing::Optional;

v1::HostNetwork Told(const std::vector<std::string>& addresses,
                     const std::vector<std::string>& ranges = {}) {
  v1::HostNetwork network;
  network.mutable_addresses()->Add(addresses.begin(), addresses.end());
  network.mutable_ranges()->Add(ranges.begin(), ranges.end());
  return network;
}

TEST(CheckHostNetwork, GivesEachAddressOneForm) {
  const auto facts = CheckHostNetwork(
      Told({"192.0.2.7", "2001:0DB8:0:0::7", "192.0.2.7", "2001:db8::7"}, {"10.8.0.0/24", "::/0"}));
  ASSERT_TRUE(facts.ok()) << facts.status();
  EXPECT_THAT(facts->addresses, ElementsAre("192.0.2.7", "2001:db8::7"));
  EXPECT_THAT(facts->ranges, ElementsAre("10.8.0.0/24", "::/0"));
  EXPECT_THAT(CheckHostNetwork(Told({}))->addresses, IsEmpty());
}

TEST(CheckHostNetwork, RefusesWhatIsNoAddress) {
  using namespace std::string_literals;
  for (const std::string& address :
       {""s, "192.0.2"s, "192.0.2.0/24"s, "192.0.2.7 "s, "fe80::1%eth0"s, "192.0.2.7, 0.0.0.0"s,
        "1.2.3.4 }\nflush ruleset\n"s, "192.0.2.7\0"s, "host"s, std::string(1 << 20, '1')}) {
    const auto status = CheckHostNetwork(Told({"192.0.2.7", address})).status();
    EXPECT_TRUE(absl::IsInvalidArgument(status)) << address.substr(0, 50);
    EXPECT_LT(status.message().size(), 500U);
  }
  for (const std::string& range : {""s, "/"s, "10.0.0.0"s, "10.0.0.0/"s, "10.0.0.0/33"s,
                                   "10.0.0.0/-1"s, "10.0.0.0/08"s, "10.0.0.0/8\n"s, "::/129"s}) {
    EXPECT_TRUE(absl::IsInvalidArgument(CheckHostNetwork(Told({}, {range})).status())) << range;
  }
}

TEST(CheckHostNetwork, RefusesMoreThanAFirewallShouldHold) {
  std::vector<std::string> many;
  for (int i = 0; i <= kMaxHostAddresses; ++i) {
    many.push_back("10." + std::to_string(i >> 16) + "." + std::to_string((i >> 8) & 255) + "." +
                   std::to_string(i & 255));
  }
  EXPECT_TRUE(absl::IsInvalidArgument(CheckHostNetwork(Told(many)).status()));
  many.pop_back();
  EXPECT_TRUE(CheckHostNetwork(Told(many)).ok());
  EXPECT_FALSE(
      CheckHostNetwork(Told({}, std::vector<std::string>(kMaxHostRanges + 1, "10.0.0.0/8"))).ok());
}

class HostNetworkTest : public ::testing::Test {
 protected:
  void SetUp() override { std::filesystem::create_directories(path_); }
  void TearDown() override { RemoveAll(path_).IgnoreError(); }
  // As the supervisor that begins now has it.
  HostNetwork Begin(std::vector<std::string> taken = {}) {
    return HostNetwork(path_, std::move(taken));
  }

  const std::filesystem::path path_ =
      std::filesystem::temp_directory_path() / ("vibe-host-network-" + RandomHex(6));
};

TEST_F(HostNetworkTest, TheNextSupervisorKnowsWhatThisOneWasTold) {
  HostNetwork first(path_, {});
  EXPECT_EQ(first.addresses(), std::nullopt);
  ASSERT_TRUE(first.Set({.addresses = {"192.0.2.7", "2001:db8::7"}, .ranges = {}}).ok());
  EXPECT_THAT(Begin().addresses(), Optional(ElementsAre("192.0.2.7", "2001:db8::7")));
  ASSERT_TRUE(first.Set({.addresses = {}, .ranges = {}}).ok());
  EXPECT_THAT(Begin().addresses(), Optional(IsEmpty())) << "none is something else than not known";
  first.Forget();
  EXPECT_EQ(first.addresses(), std::nullopt);
  EXPECT_EQ(Begin().addresses(), std::nullopt);
}

TEST_F(HostNetworkTest, ThePoolIsSettledOnceInABoot) {
  HostNetwork first(path_, {});
  EXPECT_FALSE(first.AwaitPool(absl::ZeroDuration()));
  ASSERT_TRUE(first.Set({.addresses = {}, .ranges = {"10.100.0.0/16"}}).ok());
  EXPECT_TRUE(first.AwaitPool(absl::ZeroDuration()));
  EXPECT_EQ(first.pool().ipv4(), "10.128.0.0/10");
  // What runs has addresses of it already.
  ASSERT_TRUE(first.Set({.addresses = {}, .ranges = {"10.128.0.0/16"}}).ok());
  ASSERT_TRUE(first.SettlePool().ok());
  EXPECT_EQ(first.pool().ipv4(), "10.128.0.0/10");
  HostNetwork next(path_, {});
  EXPECT_TRUE(next.AwaitPool(absl::ZeroDuration()));
  EXPECT_EQ(next.pool().ipv4(), "10.128.0.0/10");
}

TEST_F(HostNetworkTest, AHostThatSaysNothingKeepsNoProjectFromStarting) {
  HostNetwork silent(path_, {"10.64.5.0/24"});  // the NAT's
  ASSERT_TRUE(silent.SettlePool().ok());
  EXPECT_EQ(silent.pool().ipv4(), "10.128.0.0/10");
  EXPECT_EQ(Begin({"10.64.5.0/24"}).pool().ipv4(), "10.128.0.0/10");
  EXPECT_EQ(silent.addresses(), std::nullopt) << "its addresses are not known for that";
}

TEST_F(HostNetworkTest, WhatNobodyCanReadIsNotKnown) {
  std::ofstream(path_ / "host-addresses") << "192.0.2.7\nnonsense\n";
  EXPECT_EQ(Begin().addresses(), std::nullopt);
}

TEST_F(HostNetworkTest, WhatCannotBeKeptHoldsForThisSupervisorOnly) {
  HostNetwork host(path_, {});
  ASSERT_TRUE(host.Set({.addresses = {"192.0.2.7"}, .ranges = {}}).ok());
  std::filesystem::remove_all(path_);
  EXPECT_FALSE(host.Set({.addresses = {"192.0.2.8"}, .ranges = {}}).ok());
  EXPECT_THAT(host.addresses(), Optional(ElementsAre("192.0.2.8")));
  EXPECT_EQ(Begin().addresses(), std::nullopt);
}

}  // namespace
}  // namespace vibe::supervisor
