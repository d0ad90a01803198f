// The parts of the supervisor that need neither containerd nor root.
#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <filesystem>
#include <fstream>
#include <set>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "base/descriptor.h"
#include "base/file.h"
#include "base/random.h"
#include "base/sha256.h"
#include "base/status.h"
#include "base/unix_socket.h"
#include "socket_pairs.h"
#include "supervisor/address.h"
#include "supervisor/dependency_graph.h"
#include "supervisor/door.h"
#include "supervisor/forward_server.h"
#include "supervisor/full_disk.h"
#include "supervisor/log_stream.h"
#include "supervisor/machine_secret.h"
#include "supervisor/package_store.h"
#include "supervisor/restart_policy.h"
#include "supervisor/serial_greeting.h"
#include "supervisor/serial_port.h"

namespace vibe::supervisor {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

class Folder : public ::testing::Test {
 protected:
  void SetUp() override { std::filesystem::create_directories(path_); }
  void TearDown() override { RemoveAll(path_).IgnoreError(); }
  const std::filesystem::path path_ =
      std::filesystem::temp_directory_path() / ("vibe-room-" + RandomHex(6));
};

TEST(RestartPolicy, FollowsTheManifestAndBacksOff) {
  using manifest::Restart;
  EXPECT_EQ(RestartDelay(Restart::kNo, 1, 0, absl::Seconds(1)), std::nullopt);
  EXPECT_EQ(RestartDelay(Restart::kOnFailure, 0, 0, absl::Seconds(1)), std::nullopt);
  EXPECT_EQ(RestartDelay(Restart::kOnFailure, 1, 0, absl::Seconds(1)), absl::Milliseconds(100));
  EXPECT_EQ(RestartDelay(Restart::kAlways, 0, 3, absl::Seconds(1)), absl::Milliseconds(800));
  EXPECT_EQ(RestartDelay(Restart::kAlways, 1, 1000, absl::Seconds(1)), absl::Seconds(30));
  EXPECT_EQ(RestartDelay(Restart::kAlways, 1, 1000, absl::Minutes(1)), absl::Milliseconds(100));
}

TEST(DependencyGraph, NothingGoesPastAFailedDependency) {
  std::atomic<int> ran = 0;
  const absl::Status status =
      RunGraph({{1}, {}, {0}}, [&](int node, const AwaitDependencies& await) -> absl::Status {
        VIBE_RETURN_IF_ERROR(await());
        ++ran;
        return node == 1 ? absl::AbortedError("one fell over") : absl::OkStatus();
      });
  EXPECT_TRUE(absl::IsAborted(status));
  EXPECT_EQ(ran, 1);
}

TEST(FullDisk, IsRecognizedFromWhoeverReportsIt) {
  for (const char* text : {"write /x: No space left on device", "database or disk is full"}) {
    const absl::Status status = WithFreeSpace(absl::InternalError(text), "/");
    EXPECT_EQ(ReasonOf(status), Reason::kDiskLow) << text;
    EXPECT_THAT(status.message(), HasSubstr(" free)"));
  }
  EXPECT_EQ(ReasonOf(WithFreeSpace(absl::InternalError("no route to host"), "/")), std::nullopt);
}

TEST(FullDisk, ADiskThatFailsNeedsARestartOnlyWhenRoomDoesNotHelp) {
  for (const char* text : {"write /x: Input/output error", "mkdir /x: Read-only file system"}) {
    const absl::Status status = MarkFullDisk(absl::InternalError(text));
    EXPECT_EQ(ReasonOf(status), std::nullopt) << text;
    EXPECT_THAT(AdviceOf(status), HasSubstr("by itself when there is room")) << text;
    EXPECT_THAT(AdviceOf(status), HasSubstr("If the error stays, run `vibe machine restart`"));
  }
}

using PackageStoreTest = Folder;

v1::PackageFile File(const std::string& path, const std::string& content) {
  v1::PackageFile file;
  file.set_path(path);
  file.set_size(content.size());
  file.set_sha256(Sha256Raw(content));
  return file;
}

TEST_F(PackageStoreTest, RefusesIndexesThatLeadOut) {
  for (const char* path : {"../x", "/x", "a/../x", "a//b", "", "."}) {
    v1::PackageIndex index;
    *index.add_files() = File(path, "x");
    EXPECT_EQ(ReasonOf(PackageStore::DigestOf(index).status()), Reason::kInvalidPackage) << path;
  }
  v1::PackageIndex twice;
  *twice.add_files() = File("a", "x");
  *twice.add_files() = File("a", "x");
  EXPECT_FALSE(PackageStore::DigestOf(twice).ok());
}

TEST_F(PackageStoreTest, APackageAppearsWholeOrNotAtAll) {
  PackageStore store(path_ / "packages");
  ASSERT_TRUE(store.Clean().ok());
  v1::PackageIndex index;
  *index.add_files() = File("images/x/oci-layout", "{}");
  *index.add_files() = File("server.js", "hello");
  const std::string digest = PackageStore::DigestOf(index).value();
  {
    const auto import = store.Import(index);
    ASSERT_TRUE(import.ok());
    EXPECT_TRUE((*import)->Write("{}hell").ok());
    EXPECT_TRUE(absl::IsDataLoss((*import)->Finish()));
  }
  EXPECT_FALSE(store.Has(digest));
  {
    const auto import = store.Import(index);
    ASSERT_TRUE(import.ok());
    EXPECT_TRUE((*import)->Write("{}hello").ok());
    EXPECT_TRUE((*import)->Finish().ok());
  }
  EXPECT_THAT(store.List(), ElementsAre(digest));
  EXPECT_EQ(ReadFile(store.AppDirectory(digest) / "server.js", 100).value(), "hello");
  EXPECT_TRUE(store.HasFiles(digest));
  EXPECT_TRUE(store.Remove(digest).ok());
  EXPECT_TRUE(std::filesystem::is_empty(path_ / "packages"));
}

using LogStreamTest = Folder;

void Append(const std::filesystem::path& file, absl::Time time, const std::string& text) {
  std::ofstream(file, std::ios::app) << logs::FormatRecord(
      {.time = time, .stream = logs::Stream::kStdout, .partial = false, .text = text});
}

std::vector<std::string> Texts(const absl::StatusOr<std::vector<ServiceLine>>& lines) {
  std::vector<std::string> texts;
  if (lines.ok()) {
    for (const ServiceLine& line : *lines) {
      texts.push_back(absl::StrCat(line.service, " ", line.record.text));
    }
  }
  return texts;
}

TEST_F(LogStreamTest, MergesServicesByTimeAndRepeatsNothing) {
  const absl::Time start = absl::FromUnixSeconds(1'800'000'000);
  const auto at = [&](int ms) { return start + absl::Milliseconds(ms); };
  Append(path_ / "a.log", at(1), "one");
  Append(path_ / "b.log", at(2), "two");
  Append(path_ / "a.log", at(3), "three");
  LogStream stream({{"a", path_ / "a.log"}, {"b", path_ / "b.log"}});
  // Written between the beginning and the tail: it is in the tail, and must not come again.
  Append(path_ / "b.log", at(4), "four");
  EXPECT_THAT(Texts(stream.Tail(3)), ElementsAre("b two", "a three", "b four"));
  Append(path_ / "a.log", at(6), "six");
  Append(path_ / "b.log", at(5), "five");
  EXPECT_THAT(Texts(stream.Next(at(10))), ElementsAre()) << "they are too young to be in order";
  EXPECT_THAT(Texts(stream.Next(at(100))), ElementsAre("b five", "a six"));
  EXPECT_THAT(Texts(stream.Next(at(200))), ElementsAre());
}

class ForwardServerTest : public Folder {
 protected:
  // A service that sends back what it gets, on loopback.
  void SetUp() override {
    Folder::SetUp();
    relay::LoopbackListener service = relay::ListenOnLoopback(1024);
    port_ = service.port();
    listener_ = std::move(service.fd);
    auto door = Door::Open({"unix:" + (path_ / "forward").string()}, "");
    ASSERT_TRUE(door.ok()) << door.status();
    server_ = std::make_unique<ForwardServer>(
        [this](const relay::StreamHeader& header) -> absl::StatusOr<Supervisor::Target> {
          if (header.service == "late" && ++asked_ < 5) {
            return absl::UnavailableError("it is not known yet");
          }
          if (header.service != "web" && header.service != "late") {
            return absl::PermissionDeniedError("port 1 is\nnot exposed");
          }
          // Nobody listens at the first address.
          return Supervisor::Target{{"127.0.0.2", "127.0.0.1"}, port_};
        });
    door_ = *std::move(door);
    door_->Serve([this](UniqueFd connection) { server_->Add(std::move(connection)); });
  }

  std::string Ask(const std::string& header) {
    const auto fd = ConnectUnix(path_ / "forward");
    if (!fd.ok() || ::send(fd->get(), header.data(), header.size(), MSG_NOSIGNAL) < 0) {
      return "cannot connect";
    }
    std::string answer;
    char byte = 0;
    while (::read(fd->get(), &byte, 1) == 1 && byte != '\n') {
      answer.push_back(byte);
    }
    return answer;
  }

  UniqueFd ConnectFromElsewhere();

  std::atomic<int> asked_{0};

  UniqueFd listener_;
  uint16_t port_ = 0;
  std::unique_ptr<ForwardServer> server_;
  std::unique_ptr<Door> door_;  // goes first: it adds to the server
};

TEST_F(ForwardServerTest, AnswersTheHeaderInOneLine) {
  EXPECT_EQ(Ask("CONNECT p web 80\n"), "FD");
  EXPECT_EQ(Ask("CONNECT p db 80\n"), "ERR port 1 is not exposed");
  EXPECT_EQ(Ask("CONNECT p late 80\n"), "FD") << "what may come up soon is waited for";
  EXPECT_THAT(Ask("GET / HTTP/1.1\n"), HasSubstr("ERR "));
  EXPECT_THAT(Ask(std::string(1000, 'x')), HasSubstr("ERR "));
}

TEST_F(ForwardServerTest, AHostOnTheSameKernelGetsTheConnectionsThemselves) {
  constexpr int kConnections = 500;
  const auto stream = ConnectUnix(path_ / "forward");
  ASSERT_TRUE(stream.ok()) << stream.status();
  std::vector<UniqueFd> clients, services;
  for (int i = 0; i < kConnections; ++i) {
    const std::string header = "CONNECT p web 80\n";
    ASSERT_GT(::send(stream->get(), header.data(), header.size(), MSG_NOSIGNAL), 0);
    pollfd answered{stream->get(), POLLIN, 0};
    ASSERT_EQ(::poll(&answered, 1, 5000), 1) << i;
    char answer[3];
    UniqueFd client;
    ASSERT_EQ(ReceiveWithDescriptor(stream->get(), answer, sizeof answer, client), 3);
    ASSERT_TRUE(client.valid()) << i;
    services.emplace_back(::accept4(listener_.get(), nullptr, nullptr, SOCK_CLOEXEC));
    clients.push_back(std::move(client));
  }
  server_->Stop();  // it is not on the way any more
  for (int i = 0; i < kConnections; ++i) {
    ASSERT_EQ(::send(services[i].get(), "hi", 2, MSG_NOSIGNAL), 2);
    char hi[2];
    ASSERT_EQ(::recv(clients[i].get(), hi, sizeof hi, 0), 2);
  }
}

// As one behind vsock or a loopback port.
UniqueFd ForwardServerTest::ConnectFromElsewhere() {
  relay::FdPair pair = relay::TcpPair();
  server_->Add(std::move(pair.second));
  return std::move(pair.first);
}

TEST_F(ForwardServerTest, MovesTheBytesOfManyConnectionsForAHostElsewhere) {
  constexpr int kConnections = 300;
  std::vector<UniqueFd> clients, services;
  for (int i = 0; i < kConnections; ++i) {
    UniqueFd client = ConnectFromElsewhere();
    const std::string header = "CONNECT p web 80\n";
    ASSERT_GT(::send(client.get(), header.data(), header.size(), MSG_NOSIGNAL), 0);
    char ok[3];
    ASSERT_EQ(::recv(client.get(), ok, sizeof ok, MSG_WAITALL), 3);
    ASSERT_EQ(std::string(ok, 3), "OK\n");
    services.emplace_back(::accept4(listener_.get(), nullptr, nullptr, SOCK_CLOEXEC));
    clients.push_back(std::move(client));
  }
  for (int i = 0; i < kConnections; ++i) {
    ASSERT_EQ(::send(services[i].get(), "hi", 2, MSG_NOSIGNAL), 2);
    char hi[6];
    ASSERT_EQ(::recv(clients[i].get(), hi, sizeof hi, MSG_WAITALL), 6);
    EXPECT_EQ(std::string(hi, sizeof hi), std::string("\0\0\0\2hi", 6)) << "not a frame";
  }
  server_->Stop();
}

TEST_F(ForwardServerTest, EachFlowOfDatagramsHasASocketOfItsOwn) {
  UniqueFd service(::socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(0x7f000002);  // 127.0.0.2, the target's first address
  address.sin_port = htons(port_);
  ASSERT_EQ(::bind(service.get(), reinterpret_cast<sockaddr*>(&address), sizeof address), 0);
  const timeval limit{5, 0};
  ::setsockopt(service.get(), SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
  std::vector<UniqueFd> hosts;
  std::set<uint16_t> seen;
  for (const std::string text : {"one", "two"}) {
    auto host = ConnectUnix(path_ / "forward");
    ASSERT_TRUE(host.ok()) << host.status();
    const std::string header = "DATAGRAMS p web 53\n";
    ASSERT_GT(::send(host->get(), header.data(), header.size(), MSG_NOSIGNAL), 0);
    char answer[5];
    ASSERT_EQ(::recv(host->get(), answer, 3, MSG_WAITALL), 3);
    ASSERT_EQ(std::string(answer, 3), "OK\n");
    const std::string frame = std::string("\0\3", 2) + text;
    ASSERT_EQ(::send(host->get(), frame.data(), frame.size(), MSG_NOSIGNAL), 5);
    char datagram[100];
    sockaddr_in peer{};
    socklen_t size = sizeof peer;
    ASSERT_EQ(::recvfrom(service.get(), datagram, sizeof datagram, 0,
                         reinterpret_cast<sockaddr*>(&peer), &size),
              3);
    EXPECT_EQ(std::string(datagram, 3), text);
    seen.insert(peer.sin_port);
    ASSERT_EQ(::sendto(service.get(), datagram, 3, 0, reinterpret_cast<sockaddr*>(&peer), size), 3);
    ASSERT_EQ(::recv(host->get(), answer, 5, MSG_WAITALL), 5);
    EXPECT_EQ(std::string(answer, 5), frame);
    hosts.push_back(*std::move(host));
  }
  EXPECT_EQ(seen.size(), 2U) << "the service takes two clients for one";
}

TEST(AddressTest, NamesWhereHostsComeIn) {
  EXPECT_EQ(ParseAddress("unix:/run/a.sock")->path, "/run/a.sock");
  EXPECT_EQ(ParseAddress("vsock:1024")->port, 1024u);
  EXPECT_EQ(ParseAddress("tcp:1025")->kind, Address::Kind::kTcp);
  EXPECT_EQ(ParseAddress("serial:vibe.rpc")->path, "vibe.rpc");
  for (const char* wrong : {"", "unix:", "unix:relative", "vsock:", "vsock:0", "vsock:x",
                            "tcp:65536", "serial:", "serial:../x", "http://a"}) {
    EXPECT_TRUE(absl::IsInvalidArgument(ParseAddress(wrong).status())) << wrong;
  }
}

TEST_F(LogStreamTest, TheMachinesSecretIsOnTheDiskWithItsName) {
  const std::string secret(64, 'a');
  EXPECT_EQ(ReadMachineSecret(path_ / "none", path_ / "dev").value(), "");
  for (const auto& [disk, serial] :
       {std::pair("vda", "vibe-data"), std::pair("vdb", "vibe-secret")}) {
    std::filesystem::create_directories(path_ / "block" / disk);
    std::ofstream(path_ / "block" / disk / "serial") << serial;
  }
  std::filesystem::create_directories(path_ / "dev");
  EXPECT_FALSE(ReadMachineSecret(path_, path_ / "dev").ok()) << "a machine open to all";
  std::ofstream(path_ / "dev" / "vdb") << secret << "\n" << std::string(447, '\0');
  EXPECT_EQ(ReadMachineSecret(path_, path_ / "dev").value(), secret);
  std::ofstream(path_ / "dev" / "vdb") << std::string(512, '\0');
  EXPECT_FALSE(ReadMachineSecret(path_, path_ / "dev").ok());
}

TEST(DoorTest, ATcpPortNeedsTheSecret) {
  EXPECT_TRUE(absl::IsFailedPrecondition(Door::Open({"tcp:1"}, "").status()));
  EXPECT_TRUE(absl::IsFailedPrecondition(Door::Open({"serial:x"}, "").status()));
}

// A loopback port is open to every user of a computer: only who knows the secret is let in.
TEST(DoorTest, AStrangerHearsNothingAndIsSentAway) {
  const std::string secret(64, '7');
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t size = sizeof address;
  auto* generic = reinterpret_cast<sockaddr*>(&address);
  {
    const UniqueFd free_port(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
    ASSERT_EQ(::bind(free_port.get(), generic, size), 0);
    ASSERT_EQ(::getsockname(free_port.get(), generic, &size), 0);
  }
  auto door = Door::Open({absl::StrCat("tcp:", ntohs(address.sin_port))}, secret);
  ASSERT_TRUE(door.ok()) << door.status();
  std::atomic<int> let_in{0};
  (*door)->Serve([&](UniqueFd) { ++let_in; });
  const std::string header = "CONNECT p web 80\n";
  const auto try_with = [&](const std::string& bytes) {
    const UniqueFd stranger(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
    const timeval limit{20, 0};
    ::setsockopt(stranger.get(), SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
    EXPECT_EQ(::connect(stranger.get(), generic, size), 0);
    (void)::send(stranger.get(), bytes.data(), bytes.size(), MSG_NOSIGNAL);
    char byte = 0;
    const ssize_t count = ::recv(stranger.get(), &byte, 1, 0);
    return count == 0 || (count < 0 && errno == ECONNRESET);
  };
  EXPECT_TRUE(try_with(header + std::string(100, 'x')));
  EXPECT_TRUE(try_with(std::string(63, '7') + "8\n" + header)) << "one byte is wrong";
  EXPECT_TRUE(try_with(secret + "7\n" + header)) << "one byte too many";
  EXPECT_TRUE(try_with("\n" + secret + "\n" + header));
  EXPECT_TRUE(try_with(secret)) << "the line does not end: it is waited for and given up";
  EXPECT_EQ(let_in, 0);
  (void)try_with(secret + "\n" + header);
  EXPECT_EQ(let_in, 1) << "nobody comes in, with the secret either";
}

TEST(SerialGreetingTest, IsFoundHoweverItComesInPieces) {
  const std::string nonce = "0123456789abcdef0123456789abcdef";
  const std::string stream = "old\nVIBE secret wrong\nVIBE secret " + nonce + "\nnew";
  for (size_t piece = 1; piece <= stream.size(); ++piece) {
    SerialGreeting greeting("secret");
    std::string rest;
    bool found = false;
    for (size_t i = 0; i < stream.size(); i += piece) {
      const std::string bytes = stream.substr(i, piece);
      const auto end = greeting.Find(bytes);
      if (end) {
        EXPECT_FALSE(found);
        found = true;
        rest = bytes.substr(*end);
      } else if (found) {
        rest += bytes;
      }
    }
    EXPECT_TRUE(found) << piece;
    EXPECT_EQ(greeting.nonce(), nonce);
    EXPECT_EQ(rest, "new") << piece;
  }
  SerialGreeting greeting("secret");
  EXPECT_FALSE(greeting.Find("\nVIBE other " + nonce + "\n")) << "without the secret";
}

// The port is a socket here: what a host sends when the one before it went away unnoticed.
TEST(SerialPortTest, AGreetingBeginsAnewInTheMiddleOfAConnection) {
  int ends[2];
  ASSERT_EQ(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends), 0);
  const UniqueFd host(ends[0]);
  absl::Mutex mutex;
  std::vector<UniqueFd> connections;
  SerialPort port(UniqueFd(ends[1]), "secret");
  port.Serve([&](UniqueFd connection) {
    const absl::MutexLock lock(&mutex);
    connections.push_back(std::move(connection));
  });
  // What came before the answer.
  const auto greet = [&](char digit, const std::string& text) -> std::string {
    const std::string nonce(32, digit);
    const std::string bytes = "\nVIBE secret " + nonce + "\n" + text;
    EXPECT_EQ(::send(host.get(), bytes.data(), bytes.size(), 0),
              static_cast<ssize_t>(bytes.size()));
    const std::string answer = "OK " + nonce + "\n";
    std::string heard;
    while (!absl::EndsWith(heard, answer)) {
      char byte = 0;
      if (::recv(host.get(), &byte, 1, 0) != 1) {
        ADD_FAILURE() << "the port ended";
        break;
      }
      heard.push_back(byte);
    }
    return heard.substr(0, heard.size() - std::min(heard.size(), answer.size()));
  };
  const auto heard = [&](size_t index) {
    std::string text;
    while (text.size() < 5) {
      char bytes[16];
      const absl::MutexLock lock(&mutex);
      const ssize_t count = index < connections.size()
                                ? ::recv(connections[index].get(), bytes, sizeof bytes, 0)
                                : -1;
      if (count == 0) {
        return text + "(end)";
      }
      text.append(bytes, count > 0 ? static_cast<size_t>(count) : 0);
    }
    return text;
  };
  // Longer than a frame of HTTP/2, and none: it ends the stream of a host that was there before.
  const std::string no_http2(32 << 10, '\xff');
  EXPECT_EQ(greet('1', "first"), no_http2);
  EXPECT_EQ(heard(0), "first");
  EXPECT_EQ(greet('2', "again"), "");
  EXPECT_EQ(heard(1), "again");
  EXPECT_THAT(heard(0), HasSubstr("(end)"));
  {
    const absl::MutexLock lock(&mutex);
    connections[1].reset();
  }
  std::string told(no_http2.size(), '\0');
  ASSERT_EQ(::recv(host.get(), told.data(), told.size(), MSG_WAITALL),
            static_cast<ssize_t>(told.size()));
  EXPECT_EQ(told, no_http2);
  EXPECT_EQ(greet('3', "later"), "");
  EXPECT_EQ(heard(2), "later");
  port.Close();
}

}  // namespace
}  // namespace vibe::supervisor
