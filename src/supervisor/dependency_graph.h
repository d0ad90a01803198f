// Runs one function per node of an acyclic graph, each as soon as the nodes it waits for are done,
// all on threads of its own. Start runs along the dependencies, stop against them.
#pragma once

#include <functional>
#include <vector>

#include "absl/status/status.h"

namespace vibe::supervisor {

// Blocks until the nodes that this one waits for are done; returns the first error of any node so
// far.
using AwaitDependencies = std::function<absl::Status()>;

// waits_for[i] lists the nodes that must be done before node i goes past its call of `await`; what
// a node does before that call runs beside the others. Every node runs exactly once, also after
// another one failed. Returns when all are done, with the first error in time.
absl::Status RunGraph(
    const std::vector<std::vector<int>>& waits_for,
    const std::function<absl::Status(int node, const AwaitDependencies& await)>& run);

// The graph with every edge turned round.
std::vector<std::vector<int>> Reversed(const std::vector<std::vector<int>>& edges);

}  // namespace vibe::supervisor
