// What this computer is in its own network, and that the machine knows it whenever it is ready.
#include "host/host_network.h"

#include <arpa/inet.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <netinet/in.h>

#include <deque>
#include <filesystem>

#include "base/unix_socket.h"
#include "rpc/ports.h"
#include "scripted_supervisor.h"
#include "temp_dir.h"

namespace vibe::host {
namespace {

using ::testing::Contains;
using ::testing::Each;
using ::testing::ElementsAre;
using ::testing::IsEmpty;

// A list as getifaddrs makes it.
class Interfaces {
 public:
  void Add(const std::string& address, const std::string& mask = "") {
    entries_.push_back({});
    Entry& entry = entries_.back();
    entry.interface.ifa_addr = Fill(entry.address, address);
    entry.interface.ifa_netmask = mask.empty() ? nullptr : Fill(entry.mask, mask);
    Link();
  }
  void AddWithoutAddress() {
    entries_.push_back({});
    Link();
  }
  const ifaddrs* list() const { return entries_.empty() ? nullptr : &entries_.front().interface; }

 private:
  struct Entry {
    ifaddrs interface {};
    sockaddr_storage address{}, mask{};
  };

  static sockaddr* Fill(sockaddr_storage& storage, const std::string& text) {
    in_addr four{};
    in6_addr six{};
    if (::inet_pton(AF_INET, text.c_str(), &four) == 1) {
      auto* socket = reinterpret_cast<sockaddr_in*>(&storage);
      socket->sin_family = AF_INET;
      socket->sin_addr = four;
    } else if (::inet_pton(AF_INET6, text.c_str(), &six) == 1) {
      auto* socket = reinterpret_cast<sockaddr_in6*>(&storage);
      socket->sin6_family = AF_INET6;
      socket->sin6_addr = six;
    } else {
      storage.ss_family = AF_UNIX;  // what is neither
    }
    return reinterpret_cast<sockaddr*>(&storage);
  }
  void Link() {
    if (entries_.size() > 1) {
      entries_[entries_.size() - 2].interface.ifa_next = &entries_.back().interface;
    }
  }

  std::deque<Entry> entries_;  // their places stay
};

TEST(HostNetwork, HasTheAddressesOfAllInterfacesAndTheRangesAroundThem) {
  Interfaces interfaces;
  interfaces.Add("192.0.2.7", "255.255.255.0");
  interfaces.AddWithoutAddress();
  interfaces.Add("fe80::1", "ffff:ffff:ffff:ffff::");
  interfaces.Add("2001:db8::7", "ffff:ffff:ffff:ffff::");
  interfaces.Add("hardware");
  interfaces.Add("10.8.0.2", "255.255.255.255");
  interfaces.Add("198.51.100.9");
  interfaces.Add("192.0.2.7", "255.255.255.0");  // on another interface too
  interfaces.Add("203.0.113.5", "0.0.0.0");
  const v1::HostNetwork network = HostNetworkOf(interfaces.list());
  EXPECT_THAT(network.addresses(),
              ElementsAre("10.8.0.2", "192.0.2.7", "198.51.100.9", "2001:db8::7", "203.0.113.5"));
  EXPECT_THAT(network.ranges(), ElementsAre("10.8.0.2/32", "192.0.2.0/24", "198.51.100.9/32"));
  EXPECT_THAT(HostNetworkOf(nullptr).addresses(), IsEmpty());
}

TEST(HostNetwork, AnAddressOnTheLoopbackInterfaceCountsWhenItIsNoLoopbackAddress) {
  Interfaces interfaces;
  interfaces.Add("127.0.0.1", "255.0.0.0");
  interfaces.Add("127.9.9.9", "255.255.255.255");
  interfaces.Add("169.254.3.4", "255.255.0.0");
  interfaces.Add("::1");
  interfaces.Add("10.9.9.9", "255.255.255.255");
  EXPECT_THAT(HostNetworkOf(interfaces.list()).addresses(), ElementsAre("10.9.9.9"));
}

TEST(HostNetwork, ReadsTheKernelsRoutes) {
  const std::string header =
      "Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT\n";
  EXPECT_THAT(RoutedRanges(header + "eth0\t00000000\t010200C0\t0003\t0\t0\t0\t00000000\t0\t0\t0\n"
                                    "eth0\t000200C0\t00000000\t0001\t0\t0\t0\t00FFFFFF\t0\t0\t0\n"
                                    "tun0\t0000400A\t00000000\t0001\t0\t0\t0\t0000C0FF\t0\t0\t0\n"),
              ElementsAre("192.0.2.0/24", "10.64.0.0/10"));
  for (const char* nonsense : {"", "\n\n", "eth0", "a b c d e f g h i", "eth0 0 0 0 0 0 0 0"}) {
    EXPECT_THAT(RoutedRanges(nonsense), IsEmpty()) << nonsense;
  }
}

TEST(HostNetwork, OfThisComputerCanBeRead) {
  const auto network = ReadHostNetwork();
  ASSERT_TRUE(network.ok()) << network.status();
  EXPECT_THAT(network->addresses(), Each(testing::Not(testing::StartsWith("127."))));
}

class HostNetworkPushTest : public ::testing::Test {
 protected:
  HostNetworkPushTest() { EXPECT_TRUE(machine_.Start().ok()); }

  TempDir dir_;
  ScriptedSupervisor scripted_;
  ScriptedMachine machine_{dir_.path(), scripted_};
  SupervisorClient supervisor_{[this] { return machine_.Dial(rpc::kSupervisorPort); }};
  vm::MachineState state_ = vm::MachineState::kReady;
  absl::Status decisions_;
  std::vector<bool> asked_;  // for the decisions: whether to tell
  absl::StatusOr<v1::HostNetwork> now_ = v1::HostNetwork();
  HostNetworkPush push_{supervisor_, [this] { return state_; },
                        [this](bool tell) {
                          asked_.push_back(tell);
                          return decisions_;
                        },
                        [this] { return now_; }};
};

TEST_F(HostNetworkPushTest, TheMachineIsToldWhatIsTrueNow) {
  now_->add_addresses("192.0.2.7");
  ASSERT_TRUE(push_.Probe().ok());
  now_->add_addresses("198.51.100.7");
  now_->add_ranges("198.51.100.0/24");
  ASSERT_TRUE(push_.Probe().ok());
  const auto told = scripted_.told();
  ASSERT_EQ(told.size(), 2U);
  EXPECT_THAT(told[0].network().addresses(), ElementsAre("192.0.2.7"));
  EXPECT_THAT(told[1].network().addresses(), ElementsAre("192.0.2.7", "198.51.100.7"));
  EXPECT_THAT(told[1].network().ranges(), ElementsAre("198.51.100.0/24"));
}

TEST_F(HostNetworkPushTest, WhatCannotBeReadIsNotKnownAnyMore) {
  now_ = absl::InternalError("no interfaces");
  EXPECT_TRUE(push_.Probe().ok()) << "the machine is well";
  ASSERT_EQ(scripted_.told().size(), 1U);
  EXPECT_FALSE(scripted_.told()[0].has_network());
}

TEST_F(HostNetworkPushTest, WhatIsForgottenForASuspendStaysSo) {
  ASSERT_TRUE(push_.Probe().ok());
  state_ = vm::MachineState::kShuttingDown;
  ASSERT_TRUE(push_.Forget().ok());
  ASSERT_TRUE(push_.Probe().ok());  // a heartbeat that was under way
  ASSERT_EQ(scripted_.told().size(), 2U);
  EXPECT_FALSE(scripted_.told().back().has_network());
}

TEST_F(HostNetworkPushTest, WhatWasDecidedComesFirst) {
  state_ = vm::MachineState::kBooting;
  decisions_ = absl::UnavailableError("busy");
  EXPECT_TRUE(push_.Probe().ok()) << "the machine is well";
  state_ = vm::MachineState::kReady;
  EXPECT_TRUE(push_.Probe().ok());
  EXPECT_THAT(scripted_.told(), IsEmpty()) << "somebody may have the internet who must not";
  decisions_ = absl::OkStatus();
  EXPECT_TRUE(push_.Probe().ok());
  EXPECT_TRUE(push_.Probe().ok());
  EXPECT_EQ(scripted_.told().size(), 2U);
  EXPECT_THAT(asked_, ElementsAre(true, false, false)) << "known ones are not asked for";
  state_ = vm::MachineState::kBooting;  // it was suspended, and wakes
  EXPECT_TRUE(push_.Probe().ok());
  EXPECT_THAT(asked_, ElementsAre(true, false, false, true));
}

TEST_F(HostNetworkPushTest, AMachineThatDoesNotAnswerIsNotWell) {
  machine_.StopSupervisor();
  EXPECT_FALSE(push_.Probe().ok());
  EXPECT_FALSE(push_.Forget().ok()) << "it must not be suspended then";
}

}  // namespace
}  // namespace vibe::host
