#include "init/guest/dhcp_message.h"

#include <arpa/inet.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstring>
#include <random>

#include "init/guest/interface.h"
#include "init/guest/uplink.h"

namespace vibe::init::guest {
namespace {

constexpr std::array<uint8_t, 6> kHardware = {0x52, 0x54, 0, 0x12, 0x34, 0x56};
constexpr uint32_t kTransaction = 0x11223344;

uint32_t Address(const char* text) {
  in_addr address{};
  EXPECT_EQ(::inet_pton(AF_INET, text, &address), 1);
  return address.s_addr;
}

std::string Option(uint8_t code, const std::string& value) {
  return std::string(1, static_cast<char>(code)) + std::string(1, static_cast<char>(value.size())) +
         value;
}

std::string Bytes(uint32_t address) {
  return std::string(reinterpret_cast<const char*>(&address), 4);
}

// As a server writes it.
std::string Reply(char type, const std::string& more) {
  std::string reply(236, '\0');
  reply[0] = 2;
  reply[1] = 1;
  reply[2] = 6;
  std::memcpy(&reply[4], &kTransaction, 4);
  const uint32_t address = Address("192.168.64.7");
  std::memcpy(&reply[16], &address, 4);
  std::memcpy(&reply[28], kHardware.data(), 6);
  return reply + "\x63\x82\x53\x63" + Option(53, std::string(1, type)) + more + "\xff";
}

std::string Usual() {
  return Option(1, Bytes(Address("255.255.255.0"))) + std::string(2, '\0') +
         Option(3, Bytes(Address("192.168.64.1"))) + Option(54, Bytes(Address("192.168.64.1"))) +
         Option(51, std::string("\0\0\x0e\x10", 4)) +
         Option(6, Bytes(Address("192.168.64.1")) + Bytes(Address("9.9.9.9")));
}

TEST(DhcpMessage, ReadsAnOffer) {
  const std::optional<DhcpReply> reply = DecodeDhcp(Reply(2, Usual()), kTransaction, kHardware);
  ASSERT_TRUE(reply.has_value());
  EXPECT_EQ(reply->type, DhcpType::kOffer);
  EXPECT_EQ(AddressText(reply->lease.address), "192.168.64.7");
  EXPECT_EQ(NetworkText(reply->lease.address, reply->lease.netmask), "192.168.64.0/24");
  EXPECT_EQ(AddressText(reply->lease.router), "192.168.64.1");
  EXPECT_EQ(reply->lease.seconds, 3600);
  EXPECT_THAT(reply->lease.nameservers,
              testing::ElementsAre(Address("192.168.64.1"), Address("9.9.9.9")));
}

TEST(DhcpMessage, OthersRepliesAreNotOurs) {
  const std::string reply = Reply(5, Usual());
  EXPECT_TRUE(DecodeDhcp(reply, kTransaction, kHardware).has_value());
  EXPECT_FALSE(DecodeDhcp(reply, kTransaction + 1, kHardware).has_value());
  EXPECT_FALSE(DecodeDhcp(reply, kTransaction, {1, 2, 3, 4, 5, 6}).has_value());
}

TEST(DhcpMessage, ARefusalNeedsNoAddress) {
  std::string refusal = Reply(6, "");
  std::memset(&refusal[16], 0, 4);
  const std::optional<DhcpReply> reply = DecodeDhcp(refusal, kTransaction, kHardware);
  ASSERT_TRUE(reply.has_value());
  EXPECT_EQ(reply->type, DhcpType::kNak);
}

TEST(DhcpMessage, EveryCutAndRandomDamageIsSurvived) {
  const std::string whole = Reply(5, Usual());
  for (size_t length = 0; length < whole.size(); ++length) {
    DecodeDhcp(absl::string_view(whole).substr(0, length), kTransaction, kHardware);
  }
  std::mt19937 random(1);
  for (int i = 0; i < 20000; ++i) {
    std::string damaged = whole;
    for (int n = 0; n < 4; ++n) {
      damaged[240 + random() % (damaged.size() - 240)] = static_cast<char>(random());
    }
    DecodeDhcp(damaged, kTransaction, kHardware);
  }
}

TEST(DhcpMessage, AsksAsTheStandardSays) {
  const std::string message = EncodeDhcp({.type = DhcpType::kRequest,
                                          .transaction = kTransaction,
                                          .hardware = kHardware,
                                          .requested = Address("10.0.2.15"),
                                          .server = Address("10.0.2.2"),
                                          .current = 0,
                                          .hostname = "vibe"});
  ASSERT_GE(message.size(), 300u);
  EXPECT_EQ(message[0], 1);
  EXPECT_EQ(static_cast<uint8_t>(message[10]), 0x80) << "the answer must be a broadcast";
  EXPECT_EQ(message.substr(236, 4), "\x63\x82\x53\x63");
  EXPECT_THAT(message, testing::HasSubstr(Option(50, Bytes(Address("10.0.2.15")))));
  EXPECT_THAT(message, testing::HasSubstr(Option(54, Bytes(Address("10.0.2.2")))));
  EXPECT_THAT(message, testing::HasSubstr(Option(12, "vibe")));
}

TEST(Lease, SurvivesItsFile) {
  Lease lease{.address = Address("10.0.2.15"),
              .netmask = Address("255.255.255.0"),
              .router = 0,
              .nameservers = {Address("10.0.2.3"), Address("1.1.1.1")},
              .server = Address("10.0.2.2"),
              .seconds = 86400};
  const absl::StatusOr<Lease> read = ParseLease(LeaseText(lease));
  ASSERT_TRUE(read.ok()) << read.status();
  EXPECT_EQ(read->address, lease.address);
  EXPECT_EQ(read->netmask, lease.netmask);
  EXPECT_EQ(read->router, 0u);
  EXPECT_EQ(read->nameservers, lease.nameservers);
  EXPECT_EQ(read->seconds, 86400u);
  EXPECT_FALSE(ParseLease("address 1.2.3\n").ok());
  EXPECT_FALSE(ParseLease("seconds soon\n").ok());
}

}  // namespace
}  // namespace vibe::init::guest
