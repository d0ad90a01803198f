// Native machines in directories of their own, with the real programs; whatever a test leaves is
// ended and removed, by id.
#pragma once

#include <gtest/gtest.h>
#include <sys/types.h>

#include <filesystem>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "absl/time/time.h"
#include "base/subprocess.h"
#include "base/unique_fd.h"
#include "vm/native/native_machine.h"

namespace vibe::vm::native::testing {

bool Eventually(const std::function<bool()>& condition,
                absl::Duration patience = absl::Seconds(15));

// One machine, seen from the host.
class Subject {
 public:
  Subject(std::filesystem::path directory, std::vector<std::string> init_arguments);
  ~Subject();  // kills the machine

  NativeMachine& machine() { return *machine_; }
  const Layout& layout() const { return layout_; }
  std::unique_ptr<NativeMachine> AnotherHost() const;  // as a second vibed would have it

  absl::Status Health() const;  // asks the supervisor
  bool Boots();                 // starts it and waits for the supervisor

  pid_t HostHalf() const;     // 0 when there is none
  pid_t MachineHalf() const;  // process 1 of the machine
  pid_t Find(
      const std::string& program) const;  // a child of process 1, by name; 0 when there is none
  // Runs a program inside of the machine, in all of its namespaces.
  SubprocessResult Inside(std::vector<std::string> command) const;
  std::string Console() const;

  std::vector<std::filesystem::path> Cgroups() const;
  std::string LoopDevice()
      const;  // "loop3": what is on the data disk's file; empty when nothing is
  void SetDiskBytes(uint64_t bytes) { disk_bytes_ = bytes; }  // for the next start
  // What of the machine is left on the host, as far as one can find it by its directory.
  std::vector<std::string> Leftovers() const;

 private:
  uint64_t disk_bytes_ = uint64_t{1} << 30;
  NativeMachine::Options options_;
  Layout layout_;
  std::unique_ptr<NativeMachine> machine_;
};

class NativeMachineTest : public ::testing::Test {
 protected:
  void SetUp() override;
  void TearDown() override;

  // `name` may have several components.
  Subject& Make(const std::string& name, std::vector<std::string> init_arguments = {});

  std::filesystem::path directory_;

 private:
  std::vector<std::unique_ptr<Subject>> subjects_;
};

// Of /proc/<pid>/ns/<kind>: "net:[4026531840]"; empty when the process is gone.
std::string Namespace(pid_t pid, const std::string& kind);
// Holds a namespace, so that no later one gets its number.
UniqueFd KeepNamespace(pid_t pid, const std::string& kind);
// Processes that are in the namespace.
std::vector<pid_t> ProcessesIn(const std::string& ns, const std::string& kind);

}  // namespace vibe::vm::native::testing
