// The virtual machine with the real guest: Debian's kernel and containerd, our init and supervisor,
// under software emulation where KVM does not work.
#include <gmock/gmock.h>
#include <grp.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <functional>
#include <initializer_list>
#include <thread>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "base/file.h"
#include "base/unix_socket.h"
#include "host/cancellation.h"
#include "qemu_fixture.h"
#include "rpc/ports.h"
#include "vm/data_disk.h"
#include "vm/qemu/dial.h"
#include "vm/qemu/host.h"
#include "vm/qemu/stream.h"

namespace vibe::vm::qemu::testing {
namespace {

namespace fs = std::filesystem;
using ::testing::HasSubstr;

// What a forwarded connection to nothing is answered.
std::string AskForward(QemuMachine& machine) {
  const auto stream = machine.Dial(rpc::kForwardPort);
  if (!stream.ok()) {
    return stream.status().ToString();
  }
  const absl::Time deadline = absl::Now() + absl::Seconds(10);
  EXPECT_TRUE(WriteBy(*stream, "CONNECT nothing web 80\n", deadline).ok());
  const auto line = ReadLineBy(*stream, 4096, deadline);
  return line.ok() ? *line : line.status().ToString();
}

// What `question` finds as another user of this host, who has a process of his own.
bool AsNobody(const std::function<bool()>& question) {
  const pid_t child = ::fork();
  if (child == 0) {
    constexpr uid_t kNobody = 65534;
    if (::geteuid() == 0 &&
        (::setgroups(0, nullptr) != 0 || ::setgid(kNobody) != 0 || ::setuid(kNobody) != 0)) {
      ::_exit(1);
    }
    ::_exit(question() ? 1 : 0);
  }
  int status = 0;
  EXPECT_EQ(::waitpid(child, &status, 0), child);
  return !WIFEXITED(status) || WEXITSTATUS(status) != 0;
}

absl::Status KeepProject(host::SupervisorClient& supervisor, const std::string& id) {
  v1::EnsureProjectRequest request;
  request.set_id(id);
  request.set_name("kept");
  request.set_manifest_json(
      R"({"kind":"vibe.app/v1","id":"dev.vibe.kept","name":"Kept","version":"1.0.0",)"
      R"("services":[{"name":"web","image":"localhost:5000/kept:1"}]})");
  host::Cancellation cancel;
  return supervisor.EnsureProject(request, cancel).status();
}

TEST_F(QemuMachineTest, OneMachineThroughItsWholeLife) {
  auto machine = Host();
  EXPECT_EQ(machine->state(), PowerState::kOff);
  ASSERT_TRUE(Boots(*machine));
  EXPECT_EQ(machine->state(), PowerState::kOn);
  EXPECT_THAT(Console(), HasSubstr("was blank: formatted, 8192 MiB"));
  EXPECT_THAT(AskForward(*machine), HasSubstr("ERR "));
  EXPECT_LT(UseOfDataDisk(layout_.disk())->allocated, 1u << 30);
  struct stat info {};
  ASSERT_EQ(::stat(layout_.directory.c_str(), &info), 0);
  EXPECT_EQ(info.st_mode & 0777, 0700u) << "others can reach the guest";

  // vibed ends; the next one finds the machine.
  machine.reset();
  machine = Host();
  EXPECT_EQ(machine->state(), PowerState::kOn);
  EXPECT_TRUE(machine->Start().ok());
  host::SupervisorClient supervisor([&] { return machine->Dial(rpc::kSupervisorPort); });
  ASSERT_TRUE(supervisor.Health().ok());
  const absl::Status kept = KeepProject(supervisor, "0b6d5c5e-3f0a-4c35-9d0c-2f6a7f6b9a11");
  ASSERT_TRUE(kept.ok()) << kept;

  // Callers with less patience than the guest needs to accept.
  const Boot boot = ParseBoot(ReadFile(layout_.boot(), 1 << 16).value()).value();
  Dialer dialer;
  for (int i = 0; i < 20; ++i) {
    dialer.Dial(layout_, boot, rpc::kForwardPort, absl::Now() + absl::Microseconds(200))
        .IgnoreError();
  }
  const auto patient =
      dialer.Dial(layout_, boot, rpc::kForwardPort, absl::Now() + absl::Seconds(10));
  EXPECT_TRUE(patient.ok()) << patient.status();
  EXPECT_THAT(AskForward(*machine), HasSubstr("ERR ")) << "the guest was cut off";

  ASSERT_TRUE(machine->Pause().ok());
  EXPECT_EQ(machine->state(), PowerState::kPaused);
  EXPECT_EQ(Host()->state(), PowerState::kPaused);
  EXPECT_FALSE(supervisor.Health().ok());
  ASSERT_TRUE(machine->Resume().ok());
  EXPECT_EQ(machine->state(), PowerState::kOn);
  EXPECT_TRUE(Eventually([&] { return supervisor.Health().ok(); }));
  ::sync();  // the host's page cache is not what is under test

  // Power cut.
  ASSERT_TRUE(Signal("qemu-system", SIGKILL));
  EXPECT_TRUE(Eventually([&] { return machine->state() == PowerState::kOff; }));
  EXPECT_TRUE(Eventually([&] { return Processes().empty(); })) << "the vsock device is left";
  EXPECT_FALSE(machine->Dial(rpc::kSupervisorPort).ok());
  ASSERT_TRUE(Boots(*machine));
  host::Cancellation cancel;
  const auto projects = supervisor.ListProjects(cancel);
  ASSERT_TRUE(projects.ok()) << projects.status();
  ASSERT_EQ(projects->size(), 1u) << "a project was lost in the power cut";
  EXPECT_EQ(projects->front().name(), "kept");

  // The power button.
  ASSERT_TRUE(machine->RequestShutdown().ok());
  EXPECT_TRUE(Eventually([&] { return machine->state() == PowerState::kOff; }, absl::Seconds(40)));
  EXPECT_THAT(Console(), HasSubstr("vibe-init: off"));
  EXPECT_TRUE(machine->Kill().ok());
  EXPECT_TRUE(Processes().empty());
}

TEST_F(QemuMachineTest, AStoppedQemuAndStaleFilesNeedNobodysHelp) {
  // What a machine left that ended with its host: the number of another process, and sockets.
  ASSERT_TRUE(MakeDirectories(layout_.run()).ok());
  std::ofstream(layout_.record()) << "1 1 not-this-boot\n";
  for (const auto& socket : {layout_.control(), layout_.vsock(), layout_.device()}) {
    ASSERT_TRUE(ListenUnix(socket).ok());
  }
  std::ofstream(layout_.boot()) << "garbage";
  std::ofstream(layout_.memory()) << "garbage";

  auto machine = Host();
  EXPECT_EQ(machine->state(), PowerState::kOff);
  ASSERT_TRUE(machine->Start().ok());
  const pid_t qemu = Find("qemu-system");
  ASSERT_NE(qemu, 0);
  ASSERT_EQ(::kill(qemu, SIGSTOP), 0);
  absl::Time start = absl::Now();
  EXPECT_FALSE(machine->Dial(rpc::kSupervisorPort).ok());
  EXPECT_FALSE(machine->RequestShutdown().ok());
  EXPECT_EQ(Host()->state(), PowerState::kOn);
  EXPECT_LT(absl::Now() - start, absl::Seconds(12));
  start = absl::Now();
  EXPECT_TRUE(machine->Kill().ok());
  EXPECT_LT(absl::Now() - start, absl::Seconds(3));
  EXPECT_EQ(machine->state(), PowerState::kOff);
  EXPECT_TRUE(Processes().empty());
  EXPECT_FALSE(std::filesystem::exists(layout_.run()));

  // The keeper too may be stopped, or killed alone.
  ASSERT_TRUE(machine->Start().ok());
  ASSERT_TRUE(Signal("vibe-qemu-keeper", SIGSTOP));
  EXPECT_TRUE(machine->Kill().ok());
  ASSERT_TRUE(machine->Start().ok());
  ASSERT_TRUE(Signal("vibe-qemu-keeper", SIGKILL));
  EXPECT_TRUE(Eventually([&] { return Processes().empty(); })) << "qemu outlived its keeper";
  if (ChooseTransport().transport == Transport::kDevice) {
    ASSERT_TRUE(machine->Start().ok());
    ASSERT_TRUE(Signal("vhost-device-vsock", SIGKILL));
    EXPECT_TRUE(Eventually([&] { return machine->state() == PowerState::kOff; }))
        << "a machine without a channel stays up";
  }
}

TEST_F(QemuMachineTest, WithoutVsockThereAreASerialPortAndASecret) {
  auto machine = Host(Transport::kSerial);
  ASSERT_TRUE(Boots(*machine));
  // Every dial is a connection of its own.
  for (int i = 0; i < 20; ++i) {
    host::SupervisorClient supervisor([&] { return machine->Dial(rpc::kSupervisorPort); });
    ASSERT_TRUE(supervisor.Health().ok()) << "connection " << i;
  }
  EXPECT_THAT(AskForward(*machine), HasSubstr("ERR "));

  // What only this user may see.
  for (const auto& [path, mode] :
       std::initializer_list<std::pair<fs::path, mode_t>>{{layout_.directory, 0700},
                                                          {layout_.run(), 0700},
                                                          {layout_.secret(), 0600},
                                                          {layout_.boot(), 0600}}) {
    struct stat info {};
    ASSERT_EQ(::stat(path.c_str(), &info), 0) << path;
    EXPECT_EQ(info.st_mode & 0777, mode) << path;
  }
  if (::geteuid() == 0) {
    EXPECT_FALSE(AsNobody([&] {
      return ConnectUnixBy(layout_.port(), absl::Now() + absl::Seconds(5)).ok() ||
             ::access(layout_.secret().c_str(), R_OK) == 0;
    })) << "another user reaches the serial port or the secret";
  }

  // Another user of this host, who finds the port.
  const auto text = ReadFile(layout_.boot(), 1 << 16);
  ASSERT_TRUE(text.ok());
  Boot boot = ParseBoot(*text).value();
  for (const pid_t process : Processes()) {
    const auto words = ReadFile(absl::StrCat("/proc/", process, "/cmdline"), 1 << 20);
    EXPECT_FALSE(words.ok() && absl::StrContains(*words, boot.secret))
        << "a command line has the secret";
  }
  for (const std::string& greeting :
       {boot.secret.substr(1) + "\n",
        std::string("CONNECT nothing web 80\n" + std::string(100, 'x'))}) {
    const absl::Time limit = absl::Now() + absl::Seconds(15);
    const auto guest = ConnectLoopbackBy(boot.forward_port, limit);
    ASSERT_TRUE(guest.ok()) << guest.status();
    WriteBy(*guest, greeting, limit).IgnoreError();
    const auto heard = ReadLineBy(*guest, 4096, limit);
    EXPECT_FALSE(heard.ok()) << "a stranger was answered: " << *heard;
    EXPECT_LT(absl::Now(), limit) << "a stranger is kept";
  }
  boot.secret[5] = boot.secret[5] == '0' ? '1' : '0';
  const absl::Time deadline = absl::Now() + absl::Seconds(10);
  const auto stranger = Dialer().Dial(layout_, boot, rpc::kForwardPort, deadline);
  ASSERT_TRUE(stranger.ok()) << stranger.status();
  WriteBy(*stranger, "CONNECT nothing web 80\n", deadline).IgnoreError();
  EXPECT_FALSE(ReadLineBy(*stranger, 4096, deadline).ok()) << "a stranger was answered";
  EXPECT_THAT(AskForward(*machine), HasSubstr("ERR "));
}

}  // namespace
}  // namespace vibe::vm::qemu::testing
