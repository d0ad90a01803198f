// What the user allowed a project, between the library and the machine. Pure, but for the last one.
#pragma once

#include "absl/status/status.h"
#include "host/library.h"
#include "host/project_record.h"
#include "host/supervisor_client.h"
#include "manifest/manifest.h"
#include "vibe/v1/supervisor.pb.h"

namespace vibe::host {

// `decisions` with those of `given` that are set in their place.
Decisions Merge(Decisions decisions, const Decisions& given);

// What nobody was asked about is not granted.
v1::Grants GrantsOf(const Decisions& decisions);
bool SameGrants(const v1::Grants& a, const v1::Grants& b);

// FailedPrecondition when one of `given` allows what the app does not ask for: it would have no
// effect.
absl::Status CheckAskedFor(const manifest::Manifest& manifest, const Decisions& given);

// For a machine that boots or wakes, before anybody there has the internet: ok when it knows what
// was decided about every project that it has. With `tell` it is told what it does not know.
// Without any project's lock: who holds one may be waiting for the machine.
absl::Status CheckDecisions(const Library& library, SupervisorClient& supervisor, bool tell);

}  // namespace vibe::host
