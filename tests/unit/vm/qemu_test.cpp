// The qemu machine against scripted peers: what it says to qemu, the vsock device and the guest,
// and what it makes of their answers, their silence and their nonsense.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <functional>
#include <thread>

#include "../supervisor/golden.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/synchronization/notification.h"
#include "absl/time/clock.h"
#include "base/status.h"
#include "base/unix_socket.h"
#include "rpc/ports.h"
#include "scripted_qemu.h"
#include "socket_pairs.h"
#include "vm/qemu/boot.h"
#include "vm/qemu/command_line.h"
#include "vm/qemu/dial.h"
#include "vm/qemu/host.h"
#include "vm/qemu/qemu_backend.h"
#include "vm/qemu/qemu_machine.h"
#include "vm/qemu/qmp.h"
#include "vm/qemu/stream.h"

namespace vibe::vm::qemu {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;
using testing::Answer;
using testing::Greet;
using ::testing::HasSubstr;
using testing::Hear;
using testing::Listen;
using testing::Peer;
using testing::Say;
using testing::Soon;

constexpr absl::Duration kShort = absl::Milliseconds(200);

class QemuTest : public ::testing::Test {
 protected:
  void SetUp() override {
    std::string pattern = ::testing::TempDir() + "qemu-XXXXXX";
    ASSERT_NE(::mkdtemp(pattern.data()), nullptr);
    folder_ = pattern;
    layout_.directory = folder_;
    fs::create_directories(layout_.run());
  }
  void TearDown() override { fs::remove_all(folder_); }

  // What a command comes back with when qemu acts as scripted.
  absl::StatusOr<json> Ask(const Peer::Script& script, absl::Duration patience = absl::Seconds(5)) {
    const Peer peer(layout_.control(), {script});
    absl::StatusOr<Qmp> qmp = Qmp::Connect(layout_.control(), absl::Now() + patience);
    return qmp.ok() ? qmp->Execute("query-status", json::object(), absl::Now() + patience)
                    : absl::StatusOr<json>(qmp.status());
  }

  fs::path folder_;
  Layout layout_;
};

TEST_F(QemuTest, ACommandGetsItsOwnAnswer) {
  const auto answer = Ask([](const UniqueFd& qemu) {
    Greet(qemu);
    const json request = Hear(qemu);
    EXPECT_EQ(request["execute"], "query-status");
    Say(qemu, "{\"event\": \"RESUME\", \"timestamp\": {}}\n");
    Say(qemu, "{\"return\": {\"of\": \"another\"}, \"id\": 77}\n");
    Say(qemu, json{{"return", {{"running", true}}}, {"id", request["id"]}}.dump() + "\n");
  });
  ASSERT_TRUE(answer.ok()) << answer.status();
  EXPECT_EQ((*answer)["running"], true);
}

TEST_F(QemuTest, ARefusalComesInQemusWords) {
  const auto answer = Ask([](const UniqueFd& qemu) {
    Greet(qemu);
    Answer(qemu, {{"error", {{"class", "GenericError"}, {"desc", "the guest is asleep"}}}});
  });
  EXPECT_TRUE(absl::IsFailedPrecondition(answer.status()));
  EXPECT_THAT(std::string(answer.status().message()), HasSubstr("the guest is asleep"));
}

TEST_F(QemuTest, NonsenseIsNoAnswer) {
  for (const std::string& nonsense :
       {std::string("HTTP/1.1 200 OK\n"), std::string("[]\n"), std::string("{}\n"),
        std::string("\xff\xfe\n"), std::string(2 << 20, 'x')}) {
    const auto answer =
        Ask([&](const UniqueFd& qemu) { (void)WriteBy(qemu, nonsense, absl::Now() + kShort); });
    EXPECT_TRUE(absl::IsInternal(answer.status()) || absl::IsUnavailable(answer.status()))
        << answer.status();
  }
  const auto answer = Ask([](const UniqueFd& qemu) {
    Greet(qemu);
    Answer(qemu, {{"neither", "return nor error"}});
  });
  EXPECT_TRUE(absl::IsInternal(answer.status())) << answer.status();
}

TEST_F(QemuTest, AStoppedQemuCostsNoMoreThanTheDeadline) {
  const absl::Time start = absl::Now();
  EXPECT_TRUE(absl::IsDeadlineExceeded(Ask(Listen, kShort).status())) << "it never greeted";
  EXPECT_TRUE(absl::IsDeadlineExceeded(Ask(
                                           [](const UniqueFd& qemu) {
                                             Greet(qemu);
                                             Listen(qemu);
                                           },
                                           kShort)
                                           .status()));
  EXPECT_LT(absl::Now() - start, absl::Seconds(3));
  EXPECT_TRUE(absl::IsUnavailable(Ask([](const UniqueFd&) {}).status())) << "it hung up";
}

TEST_F(QemuTest, AFullQueueCostsNoMoreThanTheDeadline) {
  const UniqueFd listener = ListenUnix(layout_.control()).value();
  ASSERT_EQ(::listen(listener.get(), 0), 0);
  std::vector<UniqueFd> waiting;
  for (int i = 0; i < 8; ++i) {
    auto connection = ConnectUnixBy(layout_.control(), absl::Now() + kShort);
    if (!connection.ok()) {
      EXPECT_TRUE(absl::IsDeadlineExceeded(connection.status())) << connection.status();
      return;
    }
    waiting.push_back(*std::move(connection));
  }
  FAIL() << "the queue is never full";
}

TEST_F(QemuTest, NobodyThereIsUnavailable) {
  EXPECT_TRUE(absl::IsUnavailable(Qmp::Connect(layout_.control(), Soon()).status()));
  std::ofstream(layout_.control()) << "a stale file";
  EXPECT_TRUE(absl::IsUnavailable(Qmp::Connect(layout_.control(), Soon()).status()));
}

TEST_F(QemuTest, TheVsockDeviceIsAskedForThePort) {
  const Peer device(layout_.vsock(),
                    {[](const UniqueFd& host) {
                       EXPECT_EQ(ReadLineBy(host, 64, Soon()).value(), "CONNECT 1024");
                       Say(host, "OK 1073741824\nwhat the guest says first");
                     },
                     [](const UniqueFd&) {}, Listen,
                     [](const UniqueFd& host) {
                       EXPECT_EQ(ReadLineBy(host, 64, Soon()).value(), "CONNECT 1025");
                       Say(host, "SSH-2.0\n");
                     }});
  const Boot boot;
  const auto stream = Dialer().Dial(layout_, boot, rpc::kSupervisorPort, Soon());
  ASSERT_TRUE(stream.ok()) << stream.status();
  std::string first(25, '\0');
  EXPECT_EQ(::recv(stream->get(), first.data(), first.size(), MSG_WAITALL), 25);
  EXPECT_EQ(first, "what the guest says first");
  const auto status = [&] {
    return Dialer().Dial(layout_, boot, rpc::kForwardPort, absl::Now() + kShort).status();
  };
  EXPECT_TRUE(absl::IsUnavailable(status())) << "nobody listens in the guest";
  EXPECT_TRUE(absl::IsDeadlineExceeded(status())) << "the guest hangs";
  EXPECT_TRUE(absl::IsInternal(status()));
  EXPECT_TRUE(absl::IsInvalidArgument(Dialer().Dial(layout_, boot, 22, Soon()).status()));
}

// The real device does not survive it: see qemu_machine_test.cpp.
TEST_F(QemuTest, WhoWaitsInVainHangsUpOnNoVsockDeviceButLeavesTheConnectionToTheNext) {
  absl::Notification accepts, ends;
  const Peer device(
      layout_.vsock(),
      {[&](const UniqueFd& host) {
         EXPECT_EQ(ReadLineBy(host, 64, Soon()).value(), "CONNECT 1024");
         accepts.WaitForNotificationWithTimeout(absl::Seconds(10));
         Say(host, "OK 1073741824\nhello\n");
       },
       [&](const UniqueFd&) { ends.WaitForNotificationWithTimeout(absl::Seconds(10)); },
       [](const UniqueFd& host) {
         EXPECT_EQ(ReadLineBy(host, 64, Soon()).value(), "CONNECT 1024");
         Say(host, "OK 1073741825\n");
       }});
  Dialer dialer;
  const auto dial = [&](absl::Time deadline) {
    return dialer.Dial(layout_, Boot(), rpc::kSupervisorPort, deadline);
  };
  EXPECT_TRUE(absl::IsDeadlineExceeded(dial(absl::Now() + kShort).status()));
  EXPECT_TRUE(absl::IsDeadlineExceeded(dial(absl::Now() + kShort).status()));
  accepts.Notify();
  const auto accepted = dial(Soon());
  ASSERT_TRUE(accepted.ok()) << accepted.status();
  EXPECT_EQ(ReadLineBy(*accepted, 64, Soon()).value(), "hello");

  EXPECT_TRUE(absl::IsDeadlineExceeded(dial(absl::Now() + kShort).status()));
  ends.Notify();
  const auto next = dial(Soon());
  EXPECT_TRUE(next.ok()) << "the connection of a device that ended is in the way: "
                         << next.status();
}

TEST_F(QemuTest, ASerialPortBeginsAnewWhateverItSaidBefore) {
  const auto answer = [](const UniqueFd& host, const std::string& before) {
    EXPECT_EQ(ReadLineBy(host, 64, Soon()).value(), "");
    const std::string hello = ReadLineBy(host, 64, Soon()).value();
    ASSERT_EQ(hello.substr(0, 7), "VIBE s ");
    const std::string nonce = hello.substr(7);
    Say(host, absl::StrCat(before, "OK ", nonce.substr(0, 7), "OK ", nonce, "\nnew"));
  };
  const Peer guest(layout_.port(), {[&](const UniqueFd& host) { answer(host, ""); },
                                    [&](const UniqueFd& host) {
                                      answer(host, std::string(100'000, 'O') + "OK ");
                                    }});
  const Boot boot{.transport = Transport::kSerial, .secret = "s"};
  for (int i = 0; i < 2; ++i) {
    const auto stream = Dialer().Dial(layout_, boot, rpc::kSupervisorPort, Soon());
    ASSERT_TRUE(stream.ok()) << stream.status();
    char text[4] = "";
    EXPECT_EQ(::recv(stream->get(), text, 3, MSG_WAITALL), 3);
    EXPECT_STREQ(text, "new");
  }
}

// As libslirp's is.
TEST(LoopbackTest, AConnectionWaitsForAListenerWithAShortQueueNoLongerThanItMust) {
  const relay::LoopbackListener listener = relay::ListenOnLoopback(0);
  const auto first = ConnectLoopbackBy(listener.port(), Soon());
  ASSERT_TRUE(first.ok()) << first.status();
  EXPECT_TRUE(
      absl::IsDeadlineExceeded(ConnectLoopbackBy(listener.port(), absl::Now() + kShort).status()));

  // TCP by itself would come back after a second: then the deadline is over.
  const absl::Time deadline = absl::Now() + absl::Milliseconds(950);
  std::thread acceptor([&] {
    absl::SleepFor(kShort);
    EXPECT_TRUE(UniqueFd(::accept(listener.fd.get(), nullptr, nullptr)).valid());
  });
  const auto second = ConnectLoopbackBy(listener.port(), deadline);
  acceptor.join();
  EXPECT_TRUE(second.ok()) << second.status();
}

TEST(BootTest, IsReadAsItWasWritten) {
  for (const Transport transport : {Transport::kVhost, Transport::kDevice, Transport::kSerial}) {
    const Boot boot{.transport = transport,
                    .kvm = true,
                    .cid = 7,
                    .forward_port = 65535,
                    .secret = "ab",
                    .resumed = transport == Transport::kDevice,
                    .made_of = "sha256:00"};
    EXPECT_EQ(ParseBoot(FormatBoot(boot)).value(), boot);
  }
  for (const char* wrong :
       {"", "{}", "[]",
        "{\"transport\":\"pigeon\",\"kvm\":true,\"cid\":3,\"forwardPort\":0,"
        "\"secret\":\"\",\"resumed\":false,\"madeOf\":\"\"}",
        "{\"transport\":\"virtio-serial\",\"kvm\":true,\"cid\":3,\"forwardPort\":70000,"
        "\"secret\":\"\",\"resumed\":false,\"madeOf\":\"\"}",
        "{\"transport\":\"virtio-serial\",\"kvm\":true,\"cid\":3,\"forwardPort\":7,"
        "\"secret\":\"\",\"resumed\":1,\"madeOf\":\"\"}"}) {
    EXPECT_FALSE(ParseBoot(wrong).ok()) << wrong;
  }
}

MachineSpec Spec(Transport transport) {
  MachineSpec spec;
  spec.qemu = "/usr/bin/qemu-system-x86_64";
  spec.vsock_device = "/opt/vhost-device-vsock";
  spec.image = {.kernel = "/vm/kernel", .initrd = "/vm/initrd"};
  spec.guest = {.cpus = 2, .memory_mib = 2048, .disk_mib = 65536};
  spec.layout.directory = "/home/a,b/machine/qemu";
  spec.boot.transport = transport;
  if (transport == Transport::kSerial) {
    spec.boot.forward_port = 40123;
    spec.boot.secret = "5ec2e7";
  }
  return spec;
}

// One line for each option.
std::string Text(const std::vector<std::string>& command) {
  std::string text;
  for (const std::string& word : command) {
    absl::StrAppend(&text, text.empty() ? "" : word.starts_with("-") ? "\n" : " ", word);
  }
  return text + "\n";
}

TEST(QemuCommandTest, IsAsTheGoldenFilesSay) {
  ExpectGolden("qemu/device.txt", Text(QemuCommand(Spec(Transport::kDevice))));
  ExpectGolden("qemu/device-vsock.txt", Text(VsockDeviceCommand(Spec(Transport::kDevice))));
  MachineSpec resumed = Spec(Transport::kDevice);
  resumed.resume = true;
  ExpectGolden("qemu/device-resumed.txt", Text(QemuCommand(resumed)));
  ExpectGolden("qemu/serial.txt", Text(QemuCommand(Spec(Transport::kSerial))));
  MachineSpec arm = Spec(Transport::kVhost);
  arm.architecture = Architecture::kAarch64;
  arm.boot.kvm = true;
  arm.boot.cid = 1234;
  arm.boot.secret = "5ec2e7";
  ExpectGolden("qemu/vhost-aarch64-kvm.txt", Text(QemuCommand(arm)));
}

TEST(QemuCommandTest, NoCommandLineHasTheSecret) {
  EXPECT_THAT(Text(QemuCommand(Spec(Transport::kSerial))), ::testing::Not(HasSubstr("5ec2e7")));
}

TEST(ChooseMachineTest, KvmDecidesUnlessThereAreProjects) {
  Facts facts{.qemu = {}, .image = {}, .kvm = {true, "a guest ran with it"}, .root = true};
  EXPECT_TRUE(ChooseMachine(facts).qemu);
  facts.native_data = true;
  EXPECT_FALSE(ChooseMachine(facts).qemu) << "the user's projects are gone";
  facts.qemu_data = true;
  EXPECT_TRUE(ChooseMachine(facts).qemu);

  facts = {.qemu = {}, .image = {}, .kvm = {false, "a guest died"}, .root = true};
  EXPECT_FALSE(ChooseMachine(facts).qemu);
  EXPECT_THAT(ChooseMachine(facts).reason, HasSubstr("a guest died"));
  facts.qemu_data = true;
  EXPECT_TRUE(ChooseMachine(facts).qemu) << "the user's projects are gone";
  facts.qemu_data = false;
  facts.root = false;
  EXPECT_TRUE(ChooseMachine(facts).qemu);
  EXPECT_THAT(ChooseMachine(facts).reason, HasSubstr("slow"));
  facts.image = absl::NotFoundError("there is no machine image");
  EXPECT_FALSE(ChooseMachine(facts).qemu);
  EXPECT_THAT(ChooseMachine(facts).reason, HasSubstr("there is no machine image"));
}

// A qemu that is a script, under KVM's test.
TEST_F(QemuTest, KvmIsBelievedWhenAGuestSpoke) {
  if (::access("/dev/kvm", R_OK | W_OK) != 0) {
    EXPECT_FALSE(TestKvm("/bin/true", {}, folder_ / "kvm.json").works);
    return;
  }
  const fs::path qemu = folder_ / "qemu";
  const auto script = [&](const std::string& text) {
    std::ofstream(qemu) << "#!/bin/sh\n" << text << "\n";
    ::chmod(qemu.c_str(), 0755);
  };
  script("echo run >> " + (folder_ / "runs").string() + "; echo 'vibe-init: hello'");
  EXPECT_TRUE(TestKvm(qemu, {}, folder_ / "kvm.json").works);
  EXPECT_TRUE(TestKvm(qemu, {}, folder_ / "kvm.json").works);
  EXPECT_EQ(fs::file_size(folder_ / "runs"), 4u) << "the verdict was not remembered";
  script("echo 'failed to set MSR 0x10a' >&2; exit 1");
  const KvmVerdict died = TestKvm(qemu, {}, folder_ / "kvm.json");
  EXPECT_FALSE(died.works);
  EXPECT_THAT(died.why, HasSubstr("failed to set MSR 0x10a"));
  script("exec sleep 60");
  EXPECT_FALSE(TestKvm(qemu, {}, folder_ / "kvm.json", kShort).works);
}

TEST_F(QemuTest, AMachineThatNeverWasIsOff) {
  QemuMachine machine({.directory = folder_ / "machine",
                       .keeper = "/nowhere/vibe-qemu-keeper",
                       .images = {folder_},
                       .guest = [](bool) { return GuestOptions{}; }});
  EXPECT_EQ(machine.state(), PowerState::kOff);
  EXPECT_TRUE(absl::IsUnavailable(machine.Dial(rpc::kSupervisorPort).status()));
  EXPECT_TRUE(machine.RequestShutdown().ok());
  EXPECT_TRUE(machine.Kill().ok());
  EXPECT_TRUE(machine.LastLog().empty());
  const absl::Status start = machine.Start();
  EXPECT_TRUE(absl::IsNotFound(start)) << start;
  EXPECT_NE(AdviceOf(start), "");
}

}  // namespace
}  // namespace vibe::vm::qemu
