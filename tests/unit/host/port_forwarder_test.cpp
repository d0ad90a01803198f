#include "host/port_forwarder.h"

#include <arpa/inet.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/socket.h>
#include <unistd.h>

#include <atomic>

#include "base/status.h"
#include "rpc/ports.h"
#include "scripted_supervisor.h"
#include "temp_dir.h"

namespace vibe::host {
namespace {

using ::testing::HasSubstr;

UniqueFd Connect(uint16_t port) {
  UniqueFd fd(::socket(AF_INET, SOCK_STREAM, 0));
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_port = htons(port);
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  if (::connect(fd.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0) {
    return UniqueFd();
  }
  const timeval limit{20, 0};
  ::setsockopt(fd.get(), SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
  return fd;
}

std::string ReadAll(const UniqueFd& fd, size_t at_most) {
  std::string all;
  char buffer[4096];
  while (all.size() < at_most) {
    const ssize_t count = ::read(fd.get(), buffer, std::min(sizeof buffer, at_most - all.size()));
    if (count <= 0) {
      break;
    }
    all.append(buffer, static_cast<size_t>(count));
  }
  return all;
}

class PortForwarderTest : public ::testing::Test {
 protected:
  PortForwarderTest()
      : machine_(dir_.path(), supervisor_), forwarder_([this]() -> absl::StatusOr<UniqueFd> {
          if (failures_ > 0) {
            --failures_;
            return absl::UnavailableError("the supervisor is being restarted");
          }
          return machine_.Dial(rpc::kForwardPort);
        }) {
    ::signal(SIGPIPE, SIG_IGN);  // as vibed does
    EXPECT_TRUE(machine_.Start().ok());
  }

  uint16_t ReserveOne(const std::string& service = "web") {
    std::vector<ForwardedPort> ports = {{service, 80, 0}};
    const absl::Status status = forwarder_.Reserve("p", ports, {});
    EXPECT_TRUE(status.ok()) << status;
    return ports[0].host_port;
  }

  const TempDir dir_;
  ScriptedSupervisor supervisor_;
  ScriptedMachine machine_;
  std::atomic<int> failures_{0};
  PortForwarder forwarder_;
};

TEST_F(PortForwarderTest, CarriesBytesToTheNamedService) {
  const uint16_t port = ReserveOne();
  ASSERT_TRUE(forwarder_.Open("p").ok());
  const UniqueFd client = Connect(port);
  ASSERT_TRUE(client.valid());
  EXPECT_EQ(ReadAll(client, 17), "CONNECT p web 80\n");
  ASSERT_EQ(::write(client.get(), "hello", 5), 5);
  ::shutdown(client.get(), SHUT_WR);
  EXPECT_EQ(ReadAll(client, 100), "hello");
}

TEST_F(PortForwarderTest, LetsNobodyInBeforeItIsOpened) {
  const uint16_t port = ReserveOne();
  EXPECT_FALSE(Connect(port).valid());
  EXPECT_FALSE(forwarder_.IsOpen("p"));
  ASSERT_TRUE(forwarder_.Open("p").ok());
  EXPECT_TRUE(forwarder_.IsOpen("p"));
  EXPECT_TRUE(Connect(port).valid());
  forwarder_.Close("p");
  EXPECT_FALSE(Connect(port).valid());
}

TEST_F(PortForwarderTest, APortIsHadAgainAfterAStop) {
  const uint16_t port = ReserveOne();
  ASSERT_TRUE(forwarder_.Open("p").ok());
  EXPECT_EQ(ReadAll(Connect(port), 17), "CONNECT p web 80\n");
  forwarder_.Close("p");
  std::vector<ForwardedPort> ports = {{"web", 80, port}};
  EXPECT_TRUE(forwarder_.Reserve("p", ports, {}).ok()) << "its old connections are in TIME_WAIT";
  EXPECT_TRUE(forwarder_.Open("p").ok());
  EXPECT_TRUE(Connect(port).valid());
}

TEST_F(PortForwarderTest, APortThatIsTakenIsAConflictThatNamesWhoHasIt) {
  PortForwarder other([]() -> absl::StatusOr<UniqueFd> { return absl::UnavailableError("no"); });
  std::vector<ForwardedPort> taken = {{"web", 80, 0}};
  ASSERT_TRUE(other.Reserve("q", taken, {}).ok());
  ASSERT_TRUE(other.Open("q").ok());
  std::vector<ForwardedPort> ports = {{"api", 81, 0}, {"web", 80, taken[0].host_port}};
  const absl::Status status = forwarder_.Reserve("p", ports, {});
  EXPECT_EQ(ReasonOf(status), Reason::kPortConflict);
  EXPECT_EQ(ServiceOf(status), "web");
  EXPECT_THAT(std::string(status.message()), HasSubstr(std::to_string(taken[0].host_port)));
#ifdef __linux__
  EXPECT_THAT(std::string(status.message()), HasSubstr("process " + std::to_string(::getpid())));
#endif
  EXPECT_FALSE(Connect(ports[0].host_port).valid());
  other.Close("q");
  EXPECT_TRUE(forwarder_.Reserve("p", ports, {}).ok()) << "it can be had once the other is gone";
}

TEST_F(PortForwarderTest, ReservingAgainKeepsWhatIsOpenAndLetsGoOfTheRest) {
  std::vector<ForwardedPort> ports = {{"web", 80, 0}, {"api", 81, 0}};
  ASSERT_TRUE(forwarder_.Reserve("p", ports, {}).ok());
  ASSERT_TRUE(forwarder_.Open("p").ok());
  const UniqueFd client = Connect(ports[0].host_port);
  EXPECT_EQ(ReadAll(client, 17), "CONNECT p web 80\n");
  std::vector<ForwardedPort> fewer = {ports[0]};
  ASSERT_TRUE(forwarder_.Reserve("p", fewer, {}).ok());
  EXPECT_FALSE(Connect(ports[1].host_port).valid());
  ASSERT_EQ(::write(client.get(), "x", 1), 1);
  EXPECT_EQ(ReadAll(client, 1), "x");
}

TEST_F(PortForwarderTest, PortsOfOtherProjectsAreNotGivenOut) {
  std::set<uint16_t> avoid;
  for (int port = 20000; port <= 32767; ++port) {
    if (port % 64 != 0) {
      avoid.insert(static_cast<uint16_t>(port));
    }
  }
  std::vector<ForwardedPort> ports = {{"web", 80, 0}};
  const absl::Status status = forwarder_.Reserve("p", ports, avoid);
  if (status.ok()) {  // 200 tries may all have met a port to avoid
    EXPECT_EQ(ports[0].host_port % 64, 0);
  }
}

TEST_F(PortForwarderTest, AConnectionOutlivesARestartOfTheSupervisorBeforeItIsMade) {
  const uint16_t port = ReserveOne();
  ASSERT_TRUE(forwarder_.Open("p").ok());
  failures_ = 5;
  EXPECT_EQ(ReadAll(Connect(port), 17), "CONNECT p web 80\n");
}

TEST_F(PortForwarderTest, AServiceThatDoesNotAnswerResetsTheConnection) {
  const uint16_t port = ReserveOne("dead");
  ASSERT_TRUE(forwarder_.Open("p").ok());
  const UniqueFd client = Connect(port);
  char byte = 0;
  EXPECT_EQ(::read(client.get(), &byte, 1), -1);
  EXPECT_EQ(errno, ECONNRESET);
}

TEST_F(PortForwarderTest, HundredsOfConnectionsAtOnce) {
  const uint16_t port = ReserveOne();
  ASSERT_TRUE(forwarder_.Open("p").ok());
  std::vector<UniqueFd> clients;
  for (int i = 0; i < 200; ++i) {
    clients.push_back(Connect(port));
    ASSERT_TRUE(clients.back().valid()) << i;
  }
  for (const UniqueFd& client : clients) {
    ASSERT_EQ(ReadAll(client, 17), "CONNECT p web 80\n");
  }
}

}  // namespace
}  // namespace vibe::host
