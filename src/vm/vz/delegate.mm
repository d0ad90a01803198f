#import "vm/vz/delegate.h"

#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#import "vm/vz/error.h"

using vibe::vm::PowerState;
using vibe::vm::vz::ConsoleLog;
using vibe::vm::vz::Power;
using vibe::vm::vz::StatusFrom;

namespace {
constexpr int64_t kReconnectPause = 2 * NSEC_PER_SEC;
}  // namespace

@implementation VibeMachineDelegate {
  std::shared_ptr<Power> _power;
  std::shared_ptr<ConsoleLog> _console;
  dispatch_queue_t _queue;
}

- (instancetype)initWithPower:(std::shared_ptr<Power>)power
                      console:(std::shared_ptr<ConsoleLog>)console
                        queue:(dispatch_queue_t)queue {
  if ((self = [super init])) {
    _power = std::move(power);
    _console = std::move(console);
    _queue = queue;
  }
  return self;
}

- (void)guestDidStopVirtualMachine:(VZVirtualMachine*)virtualMachine {
  _console->Note("the machine powered off");
  _power->Set(PowerState::kOff);
}

- (void)virtualMachine:(VZVirtualMachine*)virtualMachine didStopWithError:(NSError*)error {
  _console->Note(std::string(StatusFrom(error, "the machine stopped").message()));
  _power->Set(PowerState::kOff);
}

// It happens when the Mac's own network service restarts. The guest sees an unplugged cable until
// the attachment is there again; then it asks for its lease again.
- (void)virtualMachine:(VZVirtualMachine*)virtualMachine
                         networkDevice:(VZNetworkDevice*)networkDevice
    attachmentWasDisconnectedWithError:(NSError*)error {
  _console->Note(std::string(StatusFrom(error, "the network was disconnected").message()));
  // Not at once: where the service is gone it would be a loop without a pause.
  __weak VZNetworkDevice* device = networkDevice;
  dispatch_after(dispatch_time(DISPATCH_TIME_NOW, kReconnectPause), _queue, ^{
    VZNetworkDevice* present = device;
    if (present != nil && present.attachment == nil) {
      present.attachment = [[VZNATNetworkDeviceAttachment alloc] init];
    }
  });
}

@end
