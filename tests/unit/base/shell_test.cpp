#include "base/shell.h"

#include <gtest/gtest.h>

#include <string>

#include "base/subprocess.h"

namespace vibe {
namespace {

TEST(ShellQuoted, WhatNeedsNoQuotesHasNone) {
  EXPECT_EQ(ShellQuoted("/home/ann/notes-1.0_a"), "/home/ann/notes-1.0_a");
}

TEST(ShellQuoted, AShellReadsTheSameWord) {
  for (const std::string word : {"/apps/app one", "it's", "", "$HOME;`ls`\"\\*?~#!", "ü\nx", "'"}) {
    const auto said = RunSubprocess({.args = {"/bin/sh", "-c", "printf %s " + ShellQuoted(word)}});
    ASSERT_TRUE(said.ok()) << said.status();
    EXPECT_EQ(said->out, word);
  }
}

}  // namespace
}  // namespace vibe
