#include <gtest/gtest.h>

#include "btrfs_image.h"
#include "state/sqlite_files.h"

int main(int argc, char** argv) {
  if (const std::optional<int> code = vibe::state::SqliteWorkerMain(argc, argv)) {
    return *code;
  }
  ::testing::InitGoogleTest(&argc, argv);
  vibe::state::EnterOwnMountNamespace();
  return RUN_ALL_TESTS();
}
