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

bool HasIpv6Loopback() {
  const UniqueFd fd(::socket(AF_INET6, SOCK_STREAM, 0));
  sockaddr_in6 address{};
  address.sin6_family = AF_INET6;
  address.sin6_addr = in6addr_loopback;
  return ::bind(fd.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) == 0;
}

UniqueFd Connect6(uint16_t port, int type = SOCK_STREAM) {
  UniqueFd fd(::socket(AF_INET6, type, 0));
  sockaddr_in6 address{};
  address.sin6_family = AF_INET6;
  address.sin6_port = htons(port);
  address.sin6_addr = in6addr_loopback;
  if (::connect(fd.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0) {
    return UniqueFd();
  }
  const timeval limit{20, 0};
  ::setsockopt(fd.get(), SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
  return fd;
}

UniqueFd Connect(uint16_t port, int type = SOCK_STREAM) {
  UniqueFd fd(::socket(AF_INET, type, 0));
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

  uint16_t ReserveOne(const std::string& service = "web",
                      relay::Protocol protocol = relay::Protocol::kTcp) {
    std::vector<ForwardedPort> ports = {{service, 80, 0, protocol}};
    const absl::Status status = forwarder_.Reserve("p", ports, {});
    EXPECT_TRUE(status.ok()) << status;
    return ports[0].host_port;
  }

  void EchoesTwentyTimes(const std::string& service) {
    const uint16_t port = ReserveOne(service);
    ASSERT_TRUE(forwarder_.Open("p").ok());
    for (int i = 0; i < 20; ++i) {
      const UniqueFd client = Connect(port);
      ASSERT_EQ(::write(client.get(), "hello", 5), 5);
      ::shutdown(client.get(), SHUT_WR);
      ASSERT_EQ(ReadAll(client, 100), "hello") << i;
    }
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

TEST_F(PortForwarderTest, OneThatIsTakenDoesNotKeepTheOthersFromBeingOpened) {
  PortForwarder other([]() -> absl::StatusOr<UniqueFd> { return absl::UnavailableError("no"); });
  std::vector<ForwardedPort> taken = {{"web", 80, 0}};
  ASSERT_TRUE(other.Reserve("q", taken, {}).ok());
  ASSERT_TRUE(other.Open("q").ok());
  std::vector<ForwardedPort> ports = {{"web", 80, taken[0].host_port}, {"api", 81, 0}};
  EXPECT_EQ(ReasonOf(forwarder_.ReserveWhatIsFree("p", ports, {})), Reason::kPortConflict);
  ASSERT_TRUE(forwarder_.Open("p").ok());
  EXPECT_EQ(ReadAll(Connect(ports[1].host_port), 17), "CONNECT p api 81\n");
  EXPECT_FALSE(forwarder_.IsOpen("p")) << "nobody would try again";
  other.Close("q");
  ASSERT_TRUE(forwarder_.ReserveWhatIsFree("p", ports, {}).ok());
  ASSERT_TRUE(forwarder_.Open("p").ok());
  EXPECT_TRUE(forwarder_.IsOpen("p"));
  EXPECT_EQ(ReadAll(Connect(ports[0].host_port), 17), "CONNECT p web 80\n");
}

TEST_F(PortForwarderTest, TwoPortsOfAProjectThatChangePlacesAreToldWhy) {
  std::vector<ForwardedPort> ports = {{"web", 80, 0}, {"api", 81, 0}};
  ASSERT_TRUE(forwarder_.Reserve("p", ports, {}).ok());
  ASSERT_TRUE(forwarder_.Open("p").ok());
  std::swap(ports[0].host_port, ports[1].host_port);
  const absl::Status status = forwarder_.Check("p", ports);
  EXPECT_EQ(ReasonOf(status), Reason::kPortConflict);
  EXPECT_THAT(std::string(status.message()), HasSubstr("leads to port 81 of api"));
  EXPECT_THAT(AdviceOf(status), HasSubstr("--port api:PORT:81"));
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

TEST_F(PortForwarderTest, WhatIsOpenOnAPortThatIsTakenAwayIsReset) {
  std::vector<ForwardedPort> ports = {{"web", 80, 0}, {"given", 81, 0}, {"kept", 82, 0}};
  ASSERT_TRUE(forwarder_.Reserve("p", ports, {}).ok());
  ASSERT_TRUE(forwarder_.Open("p").ok());
  const UniqueFd stream = Connect(ports[0].host_port);
  ASSERT_EQ(ReadAll(stream, 17), "CONNECT p web 80\n");
  const UniqueFd given = Connect(ports[1].host_port);
  ASSERT_EQ(::write(given.get(), "x", 1), 1);
  ASSERT_EQ(ReadAll(given, 1), "x");
  const UniqueFd kept = Connect(ports[2].host_port);
  ASSERT_EQ(ReadAll(kept, 18), "CONNECT p kept 82\n");
  failures_ = 1 << 20;
  const UniqueFd on_its_way = Connect(ports[0].host_port);
  while (forwarder_.Traffic("p")[0].open_connections < 2) {
    ::usleep(1000);
  }
  std::vector<ForwardedPort> fewer = {ports[2]};
  ASSERT_TRUE(forwarder_.Reserve("p", fewer, {}).ok());
  for (const UniqueFd* client : {&stream, &given, &on_its_way}) {
    // The stream that "given" left may have served the last one: it has its answer then.
    char bytes[100];
    ssize_t count = 0;
    while ((count = ::read(client->get(), bytes, sizeof bytes)) > 0) {
    }
    EXPECT_EQ(count, -1);
    EXPECT_EQ(errno, ECONNRESET);
  }
  ASSERT_EQ(::write(kept.get(), "y", 1), 1);
  EXPECT_EQ(ReadAll(kept, 1), "y") << "one of a port that stays ended too";
}

TEST_F(PortForwarderTest, AFlowEndsWithItsPort) {
  const uint16_t port = ReserveOne("dns", relay::Protocol::kUdp);
  ASSERT_TRUE(forwarder_.Open("p").ok());
  const UniqueFd client = Connect(port, SOCK_DGRAM);
  char byte = 0;
  ASSERT_EQ(::send(client.get(), "x", 1, 0), 1);
  ASSERT_EQ(::recv(client.get(), &byte, 1, 0), 1);
  std::vector<ForwardedPort> none;
  ASSERT_TRUE(forwarder_.Reserve("p", none, {}).ok());
  ASSERT_EQ(::send(client.get(), "y", 1, 0), 1);
  EXPECT_EQ(::recv(client.get(), &byte, 1, 0), -1);
  EXPECT_EQ(errno, ECONNREFUSED);
}

TEST_F(PortForwarderTest, AStopLeavesWhatIsOpenToTheService) {
  const uint16_t port = ReserveOne();
  ASSERT_TRUE(forwarder_.Open("p").ok());
  const UniqueFd client = Connect(port);
  ASSERT_EQ(ReadAll(client, 17), "CONNECT p web 80\n");
  forwarder_.Close("p");
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

TEST_F(PortForwarderTest, IsOnBothLoopbackAddresses) {
  if (!HasIpv6Loopback()) {
    GTEST_SKIP() << "this computer has no ::1";
  }
  const uint16_t port = ReserveOne();
  EXPECT_FALSE(Connect6(port).valid()) << "not open yet";
  ASSERT_TRUE(forwarder_.Open("p").ok());
  EXPECT_EQ(ReadAll(Connect6(port), 17), "CONNECT p web 80\n");
  EXPECT_EQ(ReadAll(Connect(port), 17), "CONNECT p web 80\n");
  forwarder_.Close("p");
  EXPECT_FALSE(Connect6(port).valid());
}

TEST_F(PortForwarderTest, ASocketThatTheMachineGivesIsTheConnection) {
  EchoesTwentyTimes("given");
}

TEST_F(PortForwarderTest, AStreamThatEndedWhileItWaitedIsDialledAgain) {
  EchoesTwentyTimes("once");
}

TEST_F(PortForwarderTest, DatagramsGoThereAndBackToTheirOwnClient) {
  const uint16_t port = ReserveOne("dns", relay::Protocol::kUdp);
  ASSERT_TRUE(forwarder_.Open("p").ok());
  std::vector<UniqueFd> clients;
  for (int i = 0; i < 20; ++i) {
    clients.push_back(i % 2 == 1 && HasIpv6Loopback() ? Connect6(port, SOCK_DGRAM)
                                                      : Connect(port, SOCK_DGRAM));
    const std::string text = "client " + std::to_string(i);
    ASSERT_EQ(::send(clients.back().get(), text.data(), text.size(), 0), ssize_t(text.size()));
    ASSERT_EQ(::send(clients.back().get(), "", 0, 0), 0) << "an empty one is one too";
  }
  for (int i = 0; i < 20; ++i) {
    char buffer[100];
    ssize_t count = ::recv(clients[i].get(), buffer, sizeof buffer, 0);
    ASSERT_GT(count, 0);
    EXPECT_EQ(std::string(buffer, count), "client " + std::to_string(i));
    EXPECT_EQ(::recv(clients[i].get(), buffer, sizeof buffer, 0), 0);
  }
  const std::string big(60'000, 'x');
  ASSERT_EQ(::send(clients[0].get(), big.data(), big.size(), 0), ssize_t(big.size()));
  std::string back(big.size() + 1, '\0');
  back.resize(static_cast<size_t>(::recv(clients[0].get(), back.data(), back.size(), 0)));
  EXPECT_TRUE(back == big);
  std::vector<PortTraffic> traffic = forwarder_.Traffic("p");
  // An answer is counted when it was sent, which a client may be quicker than.
  for (int i = 0; i < 500 && traffic[0].bytes_out != traffic[0].bytes_in; ++i) {
    ::usleep(10'000);
    traffic = forwarder_.Traffic("p");
  }
  ASSERT_EQ(traffic.size(), 1U);
  EXPECT_EQ(traffic[0].connections, 20U);
  EXPECT_EQ(traffic[0].open_connections, 20U);
  EXPECT_GE(traffic[0].bytes_in, big.size());
  EXPECT_EQ(traffic[0].bytes_in, traffic[0].bytes_out);
}

TEST_F(PortForwarderTest, TheTableOfFlowsIsBounded) {
  const uint16_t port = ReserveOne("dns", relay::Protocol::kUdp);
  ASSERT_TRUE(forwarder_.Open("p").ok());
  std::vector<UniqueFd> clients;
  for (int i = 0; i < 600; ++i) {
    clients.push_back(Connect(port, SOCK_DGRAM));
    ASSERT_EQ(::send(clients.back().get(), "x", 1, 0), 1);
    char byte = 0;
    ASSERT_EQ(::recv(clients.back().get(), &byte, 1, 0), 1) << i;
  }
  EXPECT_EQ(forwarder_.Traffic("p")[0].open_connections, 512U);
  // The one that was silent longest has lost its flow, and gets a new one.
  char byte = 0;
  ASSERT_EQ(::send(clients[0].get(), "y", 1, 0), 1);
  EXPECT_EQ(::recv(clients[0].get(), &byte, 1, 0), 1);
  EXPECT_EQ(forwarder_.Traffic("p")[0].connections, 601U);
}

TEST_F(PortForwarderTest, AUdpPortThatIsTakenIsAConflict) {
  const uint16_t port = ReserveOne("dns", relay::Protocol::kUdp);
  PortForwarder other([]() -> absl::StatusOr<UniqueFd> { return absl::UnavailableError("no"); });
  std::vector<ForwardedPort> ports = {{"dns", 53, port, relay::Protocol::kUdp}};
  const absl::Status status = other.Reserve("q", ports, {});
  EXPECT_EQ(ReasonOf(status), Reason::kPortConflict);
  EXPECT_THAT(std::string(status.message()), HasSubstr(std::to_string(port) + "/udp"));
#ifdef __linux__
  EXPECT_THAT(std::string(status.message()), HasSubstr("process " + std::to_string(::getpid())));
#endif
  std::vector<ForwardedPort> tcp = {{"dns", 53, port}};
  EXPECT_TRUE(other.Reserve("q", tcp, {}).ok()) << "TCP has numbers of its own";
}

TEST_F(PortForwarderTest, CountsConnectionsAndBytesOfEachDirection) {
  const uint16_t port = ReserveOne("given");
  ASSERT_TRUE(forwarder_.Open("p").ok());
  const UniqueFd kept = Connect(port);
  ASSERT_EQ(::write(kept.get(), "hello", 5), 5);
  ASSERT_EQ(ReadAll(kept, 5), "hello");
  {
    const UniqueFd client = Connect(port);
    ASSERT_EQ(::write(client.get(), "abc", 3), 3);
    ::shutdown(client.get(), SHUT_WR);
    ASSERT_EQ(ReadAll(client, 10), "abc");
  }
  for (int i = 0; i < 500 && forwarder_.Traffic("p")[0].open_connections != 1; ++i) {
    ::usleep(10'000);
  }
  const PortTraffic traffic = forwarder_.Traffic("p")[0];
  EXPECT_EQ(traffic.port.host_port, port);
  EXPECT_EQ(traffic.connections, 2U);
  EXPECT_EQ(traffic.open_connections, 1U);
  EXPECT_EQ(traffic.bytes_in, 8U);
  EXPECT_EQ(traffic.bytes_out, 8U);
  EXPECT_TRUE(forwarder_.Traffic("nobody").empty());
}

}  // namespace
}  // namespace vibe::host
