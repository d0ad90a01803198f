#include "relay/stream_header.h"

#include <gtest/gtest.h>

#include <string>

namespace vibe::relay {
namespace {

constexpr char kId[] = "7b0c9f0e-6d6a-4c7e-9b8e-0d9c5b1a2f3e";

TEST(StreamHeader, ComesBackAsItWasWritten) {
  const std::string line = FormatHeader({kId, "web", 8080});
  EXPECT_EQ(line, std::string("CONNECT ") + kId + " web 8080\n");
  const auto header = ParseHeader(line.substr(0, line.size() - 1));
  ASSERT_TRUE(header.ok()) << header.status();
  EXPECT_EQ(header->project_id, kId);
  EXPECT_EQ(header->service, "web");
  EXPECT_EQ(header->port, 8080);
}

TEST(StreamHeader, SaysThatDatagramsFollow) {
  const std::string line = FormatHeader({kId, "dns", 53, Protocol::kUdp});
  EXPECT_EQ(line, std::string("DATAGRAMS ") + kId + " dns 53\n");
  EXPECT_EQ(ParseHeader(line.substr(0, line.size() - 1))->protocol, Protocol::kUdp);
}

class Refused : public testing::TestWithParam<std::string> {};

TEST_P(Refused, IsAnError) {
  EXPECT_FALSE(ParseHeader(GetParam()).ok()) << GetParam();
}

INSTANTIATE_TEST_SUITE_P(StreamHeader, Refused,
                         testing::Values("", "CONNECT", "CONNECT a b", "CONNECT a b 0",
                                         "CONNECT a b 65536", "CONNECT a b -1", "CONNECT a b +80",
                                         "CONNECT a b 80x", "CONNECT a b 80 c", "CONNECT  b 80",
                                         "connect a b 80", "CONNECT ../x b 80", "CONNECT a b\n 80",
                                         "CONNECT a b 99999999999999999999",
                                         "CONNECT " + std::string(300, 'a') + " b 80"));

}  // namespace
}  // namespace vibe::relay
