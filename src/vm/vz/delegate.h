// Hears from the framework what happens to the machine. Objective-C++ only.
#pragma once

#import <Virtualization/Virtualization.h>

#include <memory>

#include "vm/vz/console_log.h"
#include "vm/vz/power.h"

// Called on the machine's queue only. It does not hold the machine, which holds it weakly.
@interface VibeMachineDelegate : NSObject <VZVirtualMachineDelegate>
- (instancetype)init NS_UNAVAILABLE;
+ (instancetype)new NS_UNAVAILABLE;
- (instancetype)initWithPower:(std::shared_ptr<vibe::vm::vz::Power>)power
                      console:(std::shared_ptr<vibe::vm::vz::ConsoleLog>)console
                        queue:(dispatch_queue_t)queue NS_DESIGNATED_INITIALIZER;
@end
