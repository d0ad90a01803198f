// Whether a service that does not answer listens where nobody else reaches it.
#include "supervisor/listeners.h"

#include <gtest/gtest.h>

#include <string>

namespace vibe::supervisor {
namespace {

// As Linux prints them on a machine that is little-endian, as all of Vibe's are.
constexpr char kHead[] =
    "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout "
    "inode\n";
constexpr char kLoopback[] =
    "   0: 0100007F:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 1 "
    "1 0 100 0 0 10 0\n";
constexpr char kAny[] =
    "   1: 00000000:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 2 "
    "1 0 100 0 0 10 0\n";
constexpr char kConnected[] =
    "   2: 0200007F:1F90 0100007F:C350 01 00000000:00000000 00:00000000 00000000     0        0 3 "
    "1 0 100 0 0 10 0\n";
constexpr char kLoopback6[] =
    "   0: 00000000000000000000000001000000:1F90 00000000000000000000000000000000:0000 0A 0:0 0:0 "
    "0 0 0 4\n";
constexpr char kMapped6[] =
    "   0: 0000000000000000FFFF00000200007F:1F90 00000000000000000000000000000000:0000 0A 0:0 0:0 "
    "0 0 0 5\n";
constexpr char kAny6[] =
    "   1: 00000000000000000000000000000000:1F90 00000000000000000000000000000000:0000 0A 0:0 0:0 "
    "0 0 0 6\n";

std::optional<std::string> Look(const std::string& tcp, const std::string& tcp6,
                                uint16_t port = 8080) {
  return LoopbackListener(kHead + tcp, kHead + tcp6, port);
}

TEST(Listeners, FindsAServiceThatListensOnLoopbackOnly) {
  EXPECT_EQ(Look(kLoopback, ""), "127.0.0.1");
  EXPECT_EQ(Look("", kLoopback6), "::1");
  EXPECT_EQ(Look("", kMapped6), "127.0.0.2");
  EXPECT_EQ(Look(kLoopback, kLoopback6), "127.0.0.1");
}

TEST(Listeners, BlamesNobodyWhoListensElsewhereToo) {
  EXPECT_EQ(Look(kAny, ""), std::nullopt);
  EXPECT_EQ(Look(std::string(kLoopback) + kAny, ""), std::nullopt);
  EXPECT_EQ(Look(kLoopback, kAny6), std::nullopt);
  EXPECT_EQ(Look("", std::string(kLoopback6) + kAny6), std::nullopt);
}

TEST(Listeners, BlamesNobodyWhenNothingListensThere) {
  EXPECT_EQ(Look("", ""), std::nullopt);
  EXPECT_EQ(Look(kConnected, ""), std::nullopt) << "a connection is no listener";
  EXPECT_EQ(Look(kLoopback, kLoopback6, 8081), std::nullopt);
}

TEST(Listeners, PassesOverWhatIsNoLine) {
  EXPECT_EQ(Look(std::string("0: 0100007F 0 0A\n0: :1F90: 0 0A\n\n0A\n") + kLoopback, ""),
            "127.0.0.1");
  EXPECT_EQ(Look("0: xyzxyzxy:1F90 0 0A\n", ""), std::nullopt);
  EXPECT_EQ(Look("0: 7F:1F90 0 0A\n", ""), std::nullopt);
  EXPECT_EQ(LoopbackListener("", "", 8080), std::nullopt);
}

}  // namespace
}  // namespace vibe::supervisor
