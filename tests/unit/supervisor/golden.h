// Compares text with a file under tests/golden. With VIBE_UPDATE_GOLDEN=1 in the environment the
// file is rewritten instead; read the difference before you commit it.
#pragma once

#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <string>

namespace vibe {

inline std::filesystem::path GoldenPath(const std::string& name) {
  return std::filesystem::path(VIBE_TEST_SOURCE_DIR) / "golden" / name;
}

inline std::string ReadGolden(const std::string& name) {
  std::ifstream file(GoldenPath(name), std::ios::binary);
  EXPECT_TRUE(file.is_open()) << "there is no " << GoldenPath(name);
  std::stringstream text;
  text << file.rdbuf();
  return text.str();
}

inline void ExpectGolden(const std::string& name, const std::string& actual) {
  const char* update = std::getenv("VIBE_UPDATE_GOLDEN");
  if (update != nullptr && std::string(update) == "1") {
    std::filesystem::create_directories(GoldenPath(name).parent_path());
    std::ofstream file(GoldenPath(name), std::ios::binary);
    EXPECT_TRUE(file << actual) << "could not write " << GoldenPath(name);
    return;
  }
  EXPECT_EQ(actual, ReadGolden(name)) << "differs from tests/golden/" << name
                                      << "; if that is meant, run with VIBE_UPDATE_GOLDEN=1";
}

}  // namespace vibe
