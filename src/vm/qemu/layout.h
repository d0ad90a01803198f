// Where a qemu machine keeps its things. Pure.
#pragma once

#include <filesystem>
#include <string>

#include "rpc/ports.h"

namespace vibe::vm::qemu {

struct Layout {
  std::filesystem::path directory;  // absolute

  std::filesystem::path disk() const { return directory / "data.img"; }  // survives everything
  // A suspended machine is its memory, the state of the rest, and the record of both (save.h). One
  // that goes on from a save has its memory in that file.
  std::filesystem::path memory() const { return directory / "memory"; }
  std::filesystem::path state() const { return directory / "state"; }
  std::filesystem::path save() const { return directory / "save.json"; }
  std::filesystem::path logs() const { return directory / "logs"; }
  std::filesystem::path console_log() const { return logs() / "console.log"; }
  std::filesystem::path record() const { return directory / "pid"; }  // the keeper's
  // Held by the keeper, qemu and the vsock device: free means that nothing of the machine is left.
  std::filesystem::path lock() const { return directory / "lock"; }
  std::filesystem::path kvm_test() const { return directory / "kvm.json"; }

  // Of one boot; private to the user by the directory's mode.
  std::filesystem::path run() const { return directory / "run"; }
  std::filesystem::path boot() const { return run() / "boot.json"; }
  std::filesystem::path ready() const { return run() / "ready"; }    // the guest said that it is
  std::filesystem::path paused() const { return run() / "paused"; }  // on purpose
  std::filesystem::path saving() const { return run() / "saving"; }  // it does not go on from there
  std::filesystem::path children() const { return run() / "children"; }  // of the keeper
  std::filesystem::path control() const { return run() / "qmp.sock"; }
  std::filesystem::path device() const { return run() / "device.sock"; }  // qemu and vsock device
  std::filesystem::path vsock() const { return run() / "vsock.sock"; }    // us and vsock device
  std::filesystem::path called() const;                               // where the guest calls us
  std::filesystem::path port() const { return run() / "port.sock"; }  // virtio-serial
  std::filesystem::path secret() const { return run() / "secret"; }
};

// vhost-device-vsock leads the guest's calls to port P to the socket with _P behind its name.
inline std::filesystem::path Layout::called() const {
  return vsock().string() + "_" + std::to_string(rpc::kReadyPort);
}

}  // namespace vibe::vm::qemu
