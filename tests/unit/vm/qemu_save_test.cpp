// Saving and resuming a guest against scripted peers, and the record that makes files a save.
#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <atomic>
#include <cstring>
#include <filesystem>
#include <fstream>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "base/file.h"
#include "base/status.h"
#include "scripted_qemu.h"
#include "vm/native/run_record.h"
#include "vm/qemu/guest_memory.h"
#include "vm/qemu/migration.h"
#include "vm/qemu/qemu_machine.h"
#include "vm/qemu/save.h"

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
constexpr char kDeleted[] = "{\"event\": \"DEVICE_DELETED\", \"data\": {\"device\": \"vsock\"}}\n";

class QemuSaveTest : public ::testing::Test {
 protected:
  void SetUp() override {
    std::string pattern = ::testing::TempDir() + "save-XXXXXX";
    ASSERT_NE(::mkdtemp(pattern.data()), nullptr);
    folder_ = pattern;
    layout_.directory = folder_ / "m";
    fs::create_directories(layout_.run());
    Write(folder_ / "kernel", "kernel");
    Write(folder_ / "initrd", "initrd");
    Write(folder_ / "qemu", "qemu");
    spec_.qemu = folder_ / "qemu";
    spec_.image = {.kernel = folder_ / "kernel", .initrd = folder_ / "initrd"};
    spec_.guest = {.cpus = 2, .memory_mib = 512, .disk_mib = 1};
    spec_.layout = layout_;
    boot_.made_of = MadeOf(spec_);
  }
  void TearDown() override { fs::remove_all(folder_); }

  static void Write(const fs::path& path, const std::string& text) {
    std::ofstream(path, std::ios::binary) << text;
  }
  void MakeFiles() {
    Write(layout_.disk(), std::string(1 << 20, 'd'));
    Write(layout_.memory(), "memory");
    Write(layout_.state(), "state");
  }
  void MakeSave() {
    MakeFiles();
    ASSERT_TRUE(RecordSave(layout_, boot_).ok());
  }

  // What `act` comes back with when qemu acts as scripted after its greeting.
  absl::Status With(const Peer::Script& script, const std::function<absl::Status(Qmp&)>& act) {
    const Peer peer(layout_.control(), {[&](const UniqueFd& qemu) {
                      Greet(qemu);
                      script(qemu);
                    }});
    absl::StatusOr<Qmp> qmp = Qmp::Connect(layout_.control(), Soon());
    return qmp.ok() ? act(*qmp) : qmp.status();
  }

  fs::path folder_;
  Layout layout_;
  MachineSpec spec_;
  Boot boot_;
};

void Expect(const UniqueFd& qemu, const std::string& command, const json& answer) {
  const json request = Hear(qemu);
  EXPECT_EQ(request["execute"], command);
  json message = answer;
  message["id"] = request["id"];
  Say(qemu, message.dump() + "\n");
}

const json kOk = {{"return", json::object()}};

// A request with a descriptor, which is taken.
UniqueFd ExpectDescriptor(const UniqueFd& qemu) {
  char text[4096];
  alignas(cmsghdr) char control[CMSG_SPACE(sizeof(int))];
  iovec data{text, sizeof text};
  msghdr message{};
  message.msg_iov = &data;
  message.msg_iovlen = 1;
  message.msg_control = control;
  message.msg_controllen = sizeof control;
  const ssize_t count = ::recvmsg(qemu.get(), &message, MSG_CMSG_CLOEXEC);
  const cmsghdr* header = CMSG_FIRSTHDR(&message);
  if (count <= 0 || header == nullptr || header->cmsg_type != SCM_RIGHTS) {
    ADD_FAILURE() << "no descriptor came";
    return UniqueFd();
  }
  int descriptor = -1;
  std::memcpy(&descriptor, CMSG_DATA(header), sizeof descriptor);
  const json request = json::parse(text, text + count, nullptr, false);
  EXPECT_EQ(request["execute"], "getfd");
  EXPECT_EQ(request["arguments"]["fdname"], "state");
  Say(qemu, json{{"return", json::object()}, {"id", request["id"]}}.dump() + "\n");
  return UniqueFd(descriptor);
}

TEST_F(QemuSaveTest, TheVsockDeviceIsGoneWhenTheGuestGaveItBack) {
  const auto unplug = [](absl::Duration patience) {
    return [patience](Qmp& qmp) { return UnplugVsock(qmp, absl::Now() + patience); };
  };
  EXPECT_TRUE(With(
                  [](const UniqueFd& qemu) {
                    Say(qemu, kDeleted);  // before the answer
                    Expect(qemu, "device_del", kOk);
                  },
                  unplug(absl::Seconds(5)))
                  .ok());
  EXPECT_TRUE(With(
                  [](const UniqueFd& qemu) {
                    Expect(qemu, "device_del", kOk);
                    Say(qemu, "{\"event\": \"DEVICE_DELETED\", \"data\": {\"path\": \"/x\"}}\n");
                    Say(qemu, "{\"event\": \"DEVICE_DELETED\", \"data\": 7}\n");
                    Say(qemu, kDeleted);
                  },
                  unplug(absl::Seconds(5)))
                  .ok());
  EXPECT_TRUE(absl::IsDeadlineExceeded(With(
      [](const UniqueFd& qemu) {
        Expect(qemu, "device_del", kOk);
        Listen(qemu);
      },
      unplug(kShort))))
      << "the guest hangs";
  const absl::Status refused = With(
      [](const UniqueFd& qemu) {
        Expect(qemu, "device_del", {{"error", {{"desc", "Device 'vsock' not found"}}}});
      },
      unplug(absl::Seconds(5)));
  EXPECT_TRUE(absl::IsFailedPrecondition(refused)) << refused;
  EXPECT_TRUE(absl::IsUnavailable(With(
      [](const UniqueFd& qemu) { Expect(qemu, "device_del", kOk); }, unplug(absl::Seconds(5)))))
      << "qemu ended";
}

TEST_F(QemuSaveTest, TheDriverRunsWhenQemuSaysSo) {
  const auto runs = [&](const json& answer) {
    bool is = false;
    EXPECT_TRUE(With(
                    [&](const UniqueFd& qemu) {
                      const json request = Hear(qemu);
                      EXPECT_EQ(request["execute"], "x-query-virtio-status");
                      EXPECT_EQ(request["arguments"]["path"],
                                "/machine/peripheral/vsock/virtio-backend");
                      json message = answer;
                      message["id"] = request["id"];
                      Say(qemu, message.dump() + "\n");
                    },
                    [&](Qmp& qmp) {
                      is = VsockRuns(qmp, Soon());
                      return absl::OkStatus();
                    })
                    .ok());
    return is;
  };
  EXPECT_TRUE(runs({{"return", {{"vhost-started", true}}}}));
  EXPECT_FALSE(runs({{"return", {{"vhost-started", false}}}}));
  EXPECT_FALSE(runs({{"return", {{"vhost-started", "true"}}}}));
  EXPECT_FALSE(runs({{"return", json::array({true})}}));
  EXPECT_FALSE(runs({{"error", {{"class", "CommandNotFound"}, {"desc", "no such command"}}}}));
}

// What qemu is asked until its state goes to the file.
UniqueFd ExpectSave(const UniqueFd& qemu) {
  Expect(qemu, "stop", kOk);
  Expect(qemu, "migrate-set-capabilities", kOk);
  Expect(qemu, "migrate-set-parameters", kOk);
  UniqueFd file = ExpectDescriptor(qemu);
  Expect(qemu, "migrate", kOk);
  return file;
}

TEST_F(QemuSaveTest, AGuestsStateGoesToTheFile) {
  const fs::path path = folder_ / "out";
  const auto save = [&](absl::Duration patience) {
    return [&path, patience](Qmp& qmp) {
      Write(path, "");
      const UniqueFd file(::open(path.c_str(), O_RDWR | O_CLOEXEC));
      return SaveState(qmp, file, absl::Now() + patience);
    };
  };
  EXPECT_TRUE(With(
                  [](const UniqueFd& qemu) {
                    const UniqueFd file = ExpectSave(qemu);
                    Expect(qemu, "query-migrate", {{"return", {{"status", "setup"}}}});
                    EXPECT_EQ(::write(file.get(), "guest", 5), 5);
                    Expect(qemu, "query-migrate", {{"return", {{"status", "active"}}}});
                    Expect(qemu, "query-migrate", {{"return", {{"status", "completed"}}}});
                  },
                  save(absl::Seconds(5)))
                  .ok());
  EXPECT_EQ(*ReadFile(path, 100), "guest");
  const absl::Status failed = With(
      [](const UniqueFd& qemu) {
        ExpectSave(qemu);
        Expect(qemu, "query-migrate",
               {{"return", {{"status", "failed"}, {"error-desc", "no space left"}}}});
      },
      save(absl::Seconds(5)));
  EXPECT_TRUE(absl::IsFailedPrecondition(failed)) << failed;
  EXPECT_THAT(std::string(failed.message()), HasSubstr("no space left"));
  EXPECT_TRUE(absl::IsDeadlineExceeded(With(
      [](const UniqueFd& qemu) {
        ExpectSave(qemu);
        while (Hear(qemu).is_object()) {
          Say(qemu, "{\"event\": \"STOP\"}\n");  // much, and no answer
        }
      },
      save(kShort))));
  EXPECT_TRUE(absl::IsUnavailable(
      With([](const UniqueFd& qemu) { ExpectSave(qemu); }, save(absl::Seconds(5)))));
  EXPECT_TRUE(absl::IsInternal(With(
      [](const UniqueFd& qemu) {
        ExpectSave(qemu);
        Hear(qemu);
        Say(qemu, "garbage\n");
      },
      save(absl::Seconds(5)))));
}

TEST_F(QemuSaveTest, AGuestIsLoadedWhenItWaitsToRun) {
  const auto load = [&](const std::vector<json>& answers) {
    return With(
        [&](const UniqueFd& qemu) {
          Expect(qemu, "migrate-set-capabilities", kOk);
          ExpectDescriptor(qemu);
          Expect(qemu, "migrate-incoming", kOk);
          for (const json& answer : answers) {
            Expect(qemu, "query-status", {{"return", answer}});
          }
        },
        [&](Qmp& qmp) {
          const UniqueFd file(::open(spec_.qemu.c_str(), O_RDONLY | O_CLOEXEC));
          return LoadState(qmp, file, absl::Now() + absl::Seconds(5));
        });
  };
  EXPECT_TRUE(load({{{"status", "inmigrate"}}, {{"status", "paused"}}}).ok());
  EXPECT_TRUE(absl::IsFailedPrecondition(load({{{"status", "internal-error"}}})));
  EXPECT_TRUE(absl::IsFailedPrecondition(load({json::array({1, 2})})));
  EXPECT_TRUE(absl::IsUnavailable(load({{{"status", "inmigrate"}}})))
      << "qemu ended: the state is for another machine";
}

TEST_F(QemuSaveTest, EventsThatNobodyWaitsForAreFew) {
  EXPECT_TRUE(With(
                  [](const UniqueFd& qemu) {
                    for (int i = 0; i < 5000; ++i) {
                      Say(qemu, absl::StrCat("{\"event\": \"E\", \"data\": {\"n\": ", i, "}}\n"));
                    }
                    Expect(qemu, "query-status", kOk);
                  },
                  [](Qmp& qmp) -> absl::Status {
                    VIBE_RETURN_IF_ERROR(
                        qmp.Execute("query-status", json::object(), Soon()).status());
                    VIBE_ASSIGN_OR_RETURN(const json first, qmp.AwaitEvent("E", Soon()));
                    EXPECT_GT(first["n"], 4900);
                    return absl::OkStatus();
                  })
                  .ok());
}

TEST_F(QemuSaveTest, ARecordIsReadAsItWasWritten) {
  const Save save{.boot = {.transport = Transport::kSerial, .secret = "ab", .made_of = "sha256:1"},
                  .disk = {1, 2, 3, -4},
                  .memory = {5, 6, 7, 8},
                  .state_sha256 = "sha256:2"};
  const std::string text = FormatSave(save);
  EXPECT_EQ(ParseSave(text).value(), save);
  const json document = json::parse(text);
  for (const auto& [key, value] : document.items()) {
    json broken = document;
    broken.erase(key);
    EXPECT_FALSE(ParseSave(broken.dump()).ok()) << "without " << key;
    broken[key] = json::array({value});
    EXPECT_FALSE(ParseSave(broken.dump()).ok()) << key << " is an array";
  }
  for (size_t length = 0; length < text.size() - 2; length += 7) {
    EXPECT_FALSE(ParseSave(text.substr(0, length)).ok()) << length;
  }
}

TEST_F(QemuSaveTest, ASaveIsUsedOnce) {
  MakeSave();
  struct stat info {};
  ASSERT_EQ(::stat(layout_.save().c_str(), &info), 0);
  EXPECT_EQ(info.st_mode & 0777, 0600u) << "it has the boot's secret";
  const auto taken = TakeSave(layout_, spec_);
  ASSERT_TRUE(taken.ok()) << taken.status();
  EXPECT_EQ(taken->boot, boot_);
  char text[6] = "";
  EXPECT_EQ(::read(taken->state.get(), text, 5), 5);
  EXPECT_STREQ(text, "state");
  EXPECT_FALSE(fs::exists(layout_.save()));
  EXPECT_FALSE(fs::exists(layout_.state()));
  EXPECT_TRUE(absl::IsNotFound(TakeSave(layout_, spec_).status()));
}

TEST_F(QemuSaveTest, ASaveOfOtherFilesIsNone) {
  const auto spoiled = [&](const std::string& what, const std::function<void()>& harm,
                           const std::string& why) {
    SCOPED_TRACE(what);
    MakeSave();
    harm();
    const absl::Status status = TakeSave(layout_, spec_).status();
    EXPECT_TRUE(absl::IsFailedPrecondition(status)) << status;
    EXPECT_THAT(std::string(status.message()), HasSubstr(why));
    EXPECT_FALSE(fs::exists(layout_.save())) << "it can be tried again";
    fs::remove_all(layout_.disk());
    fs::remove_all(layout_.memory());
  };
  const auto touch = [](const fs::path& path) {
    std::fstream file(path, std::ios::in | std::ios::out | std::ios::binary);
    file.seekp(0);
    file.put(static_cast<char>(file.peek()));
  };
  spoiled(
      "disk", [&] { touch(layout_.disk()); }, "the data disk");
  spoiled(
      "no disk", [&] { fs::remove(layout_.disk()); }, "the data disk");
  spoiled(
      "a disk put back with its time",
      [&] {
        const auto time = fs::last_write_time(layout_.disk());
        touch(layout_.disk());
        fs::last_write_time(layout_.disk(), time);
      },
      "the data disk");
  spoiled(
      "a copy of the disk",
      [&] {
        const auto time = fs::last_write_time(layout_.disk());
        fs::copy_file(layout_.disk(), folder_ / "copy");
        fs::rename(folder_ / "copy", layout_.disk());
        fs::last_write_time(layout_.disk(), time);
      },
      "the data disk");
  spoiled(
      "memory", [&] { touch(layout_.memory()); }, "the saved memory");
  spoiled(
      "no memory", [&] { fs::remove(layout_.memory()); }, "the saved memory");
  spoiled(
      "truncated state", [&] { fs::resize_file(layout_.state(), 3); }, "the saved state");
  spoiled(
      "other state", [&] { Write(layout_.state(), "State"); }, "the saved state");
  spoiled(
      "no state", [&] { fs::remove(layout_.state()); }, "the saved state");
  spoiled(
      "garbage", [&] { Write(layout_.save(), "{\"version\":"); }, "not the record");
  spoiled(
      "much garbage", [&] { Write(layout_.save(), std::string(1 << 20, '{')); }, "");
  spoiled(
      "empty record", [&] { Write(layout_.save(), ""); }, "not the record");
  const auto machine = [&](const std::string& what, const std::function<void()>& change) {
    const MachineSpec before = spec_;
    spoiled(what, change, "the machine");
    spec_ = before;
    boot_.made_of = MadeOf(spec_);
  };
  machine("qemu", [&] { Write(folder_ / "qemu", "qemu 2"); });
  machine("kernel", [&] { Write(folder_ / "kernel", "kernel 2"); });
  machine("initrd", [&] { Write(folder_ / "initrd", "initrd 2"); });
  machine("memory's size", [&] { spec_.guest.memory_mib = 513; });
  machine("processors", [&] { spec_.guest.cpus = 1; });
  machine("channel", [&] { spec_.boot.transport = Transport::kSerial; });
  machine("KVM", [&] { spec_.boot.kvm = true; });
  spoiled(
      "a larger disk is wished", [&] { spec_.guest.disk_mib = 2; }, "the data disk's size");
}

TEST_F(QemuSaveTest, WhatEachStartChoosesAnewIsTheSameMachine) {
  MachineSpec other = spec_;
  other.boot.cid = 77;
  other.boot.forward_port = 4711;
  other.resume = true;
  EXPECT_EQ(MadeOf(other), MadeOf(spec_));
}

TEST_F(QemuSaveTest, FilesWithoutARecordAreNoSave) {
  MakeFiles();
  EXPECT_TRUE(absl::IsNotFound(TakeSave(layout_, spec_).status()));
  EXPECT_FALSE(fs::exists(layout_.state())) << "what a crash left stays for ever";
  EXPECT_TRUE(fs::exists(layout_.disk()));
  fs::remove(layout_.memory());
  Write(layout_.state(), "state");
  EXPECT_FALSE(RecordSave(layout_, boot_).ok());
  EXPECT_FALSE(fs::exists(layout_.save()));
}

TEST_F(QemuSaveTest, AGuestsMemoryIsCopiedWithoutItsHoles) {
  constexpr off_t kPart = 8 << 20;
  const UniqueFd memory(::memfd_create("memory", MFD_CLOEXEC));
  ASSERT_EQ(::ftruncate(memory.get(), 64 * kPart), 0);
  const std::string used(kPart, 'u');
  for (const off_t at : {off_t{3} * kPart, off_t{60} * kPart}) {
    ASSERT_EQ(::pwrite(memory.get(), used.data(), used.size(), at), kPart);
  }
  Write(layout_.memory(), std::string(1000, 'x'));  // of an earlier save
  ASSERT_TRUE(CopyGuestMemory(memory, layout_.memory(), Soon()).ok());
  EXPECT_EQ(fs::file_size(layout_.memory()), 64u * kPart);
  struct stat info {};
  ASSERT_EQ(::stat(layout_.memory().c_str(), &info), 0);
  EXPECT_LE(info.st_blocks * 512, 3 * kPart) << "memory that was never used takes space";
  const UniqueFd copy(::open(layout_.memory().c_str(), O_RDONLY | O_CLOEXEC));
  std::string read(kPart, '\0');
  for (const off_t at : {off_t{3} * kPart, off_t{60} * kPart}) {
    ASSERT_EQ(::pread(copy.get(), read.data(), read.size(), at), kPart);
    EXPECT_TRUE(read == used);
  }
  ASSERT_EQ(::pread(copy.get(), read.data(), read.size(), 0), kPart);
  EXPECT_TRUE(read == std::string(kPart, '\0'));

  EXPECT_TRUE(absl::IsDeadlineExceeded(CopyGuestMemory(memory, layout_.memory(), absl::Now())));
  ASSERT_TRUE(fs::remove(layout_.memory()));
  fs::create_directory(layout_.memory());
  EXPECT_FALSE(CopyGuestMemory(memory, layout_.memory(), Soon()).ok());
  EXPECT_FALSE(OpenGuestMemory(layout_).ok()) << "there is no qemu";
}

// What qemu calls "io-error" is a guest that it stopped because a write found no room.
TEST_F(QemuSaveTest, AGuestThatIsHeldForRoomGoesOnWhenThereIsSome) {
  Write(layout_.record(), native::FormatRecord(native::RecordOf(::getpid()).value()));
  QemuMachine machine({.directory = layout_.directory,
                       .keeper = "/nowhere/vibe-qemu-keeper",
                       .images = {folder_},
                       .guest = [](bool) { return GuestOptions{}; }});
  std::atomic<bool> went_on = false;
  {
    const Peer peer(
        layout_.control(),
        {[](const UniqueFd& qemu) {
           Greet(qemu);
           Expect(qemu, "query-status", {{"return", {{"status", "io-error"}, {"running", false}}}});
         },
         [&](const UniqueFd& qemu) {
           Greet(qemu);
           Expect(qemu, "cont", kOk);
           went_on = true;
         }});
    EXPECT_EQ(machine.Hindrance(), "");  // the disk of this test has room
  }
  EXPECT_TRUE(went_on);
  fs::remove(layout_.control());
  const Peer peer(
      layout_.control(), {[](const UniqueFd& qemu) {
        Greet(qemu);
        Expect(qemu, "query-status", {{"return", {{"status", "running"}, {"running", true}}}});
      }});
  EXPECT_EQ(machine.Hindrance(), "") << "a guest that runs is held by nothing";
  fs::remove(layout_.record());  // this process is no keeper to be killed
}

TEST_F(QemuSaveTest, AMachineThatIsOffIsNotSavedAndKillingASuspendedOneEndsTheSave) {
  MakeSave();
  QemuMachine machine({.directory = layout_.directory,
                       .keeper = "/nowhere/vibe-qemu-keeper",
                       .images = {folder_},
                       .guest = [](bool) { return GuestOptions{}; }});
  EXPECT_TRUE(machine.suspended());
  EXPECT_FALSE(machine.resumed());
  EXPECT_TRUE(absl::IsFailedPrecondition(machine.Suspend()));
  EXPECT_TRUE(machine.suspended()) << "asking for a save lost one";
  EXPECT_TRUE(machine.Kill().ok());
  EXPECT_FALSE(machine.suspended());
  EXPECT_TRUE(fs::exists(layout_.disk()));
  EXPECT_FALSE(fs::exists(layout_.memory()));
}

}  // namespace
}  // namespace vibe::vm::qemu
