// The program itself, with pipes as the shim gives it.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sched.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/resource.h>

#include <algorithm>
#include <fstream>
#include <functional>

#include "../base/temporary_directory.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "logger_process.h"
#include "logs/log_file.h"

namespace vibe::logs {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

std::vector<std::string> TextsIn(const std::filesystem::path& path) {
  const auto records = ReadTail(path, SIZE_MAX);
  EXPECT_TRUE(records.ok()) << records.status();
  std::vector<std::string> texts;
  for (const Record& record : records.value_or(std::vector<Record>())) {
    texts.push_back(record.text);
  }
  return texts;
}

// Until the log has `count` lines; what it has then.
std::vector<std::string> AwaitLines(const std::filesystem::path& path, size_t count) {
  std::vector<std::string> texts = TextsIn(path);
  for (int i = 0; i < 5000 && texts.size() < count; ++i) {
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
    texts = TextsIn(path);
  }
  return texts;
}

// Runs `body` in a process of its own, where `directory` is a file system of 256 KiB. False when
// this machine does not allow that.
bool OnSmallDisk(const std::filesystem::path& directory, const std::function<void()>& body) {
  constexpr int kRefused = 77;
  const pid_t child = ::fork();
  if (child == 0) {
    if (::unshare(::geteuid() == 0 ? CLONE_NEWNS : CLONE_NEWUSER | CLONE_NEWNS) != 0 ||
        ::mount("none", "/", nullptr, MS_REC | MS_PRIVATE, nullptr) != 0 ||
        ::mount("tmpfs", directory.c_str(), "tmpfs", 0, "size=256k") != 0) {
      ::_exit(kRefused);
    }
    body();
    ::_exit(testing::Test::HasFailure() ? 1 : 0);
  }
  int status = 0;
  ::waitpid(child, &status, 0);
  if (WIFEXITED(status) && WEXITSTATUS(status) == kRefused) {
    return false;
  }
  EXPECT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == 0) << "see above";
  return true;
}

class Logger : public testing::Test {
 protected:
  std::vector<std::string> Args() const { return {"file", path_.string()}; }

  const TemporaryDirectory directory_;
  const std::filesystem::path path_ = directory_.path() / "web.log";
};

TEST_F(Logger, StampsAndTagsBothStreamsAndEndsWithThem) {
  const absl::Time before = absl::Now();
  LoggerProcess logger(Args());
  logger.AwaitReady();
  WriteAll(logger.out, "to stdout\n");
  AwaitLines(path_, 1);
  WriteAll(logger.err, "to stderr\nand no newline");
  AwaitLines(path_, 2);
  logger.out.reset();
  EXPECT_EQ(logger.Wait(std::chrono::milliseconds(50)), -1) << "stderr is still open";
  logger.err.reset();
  ASSERT_EQ(logger.Wait(), 0);
  const auto records = ReadTail(path_, 10);
  ASSERT_TRUE(records.ok());
  ASSERT_EQ(records->size(), 3U);
  EXPECT_EQ((*records)[0].text, "to stdout");
  EXPECT_EQ((*records)[0].stream, Stream::kStdout);
  EXPECT_EQ((*records)[1].text, "to stderr");
  EXPECT_EQ((*records)[1].stream, Stream::kStderr);
  EXPECT_EQ((*records)[2].text, "and no newline");
  for (const Record& record : *records) {
    EXPECT_GE(record.time, before);
    EXPECT_LE(record.time, absl::Now());
  }
}

TEST_F(Logger, IsReadyBeforeAnythingIsWritten) {
  LoggerProcess logger(Args());
  logger.AwaitReady();
  EXPECT_TRUE(std::filesystem::exists(path_));
}

TEST_F(Logger, TakesItsArgumentsInAnyOrder) {
  const std::filesystem::path secrets = directory_.path() / "secrets";
  std::ofstream(secrets, std::ios::binary) << "hunter22" << '\0' << "abc" << '\0';
  LoggerProcess logger({"secrets", secrets.string(), "file", path_.string()});
  logger.AwaitReady();
  std::filesystem::remove(secrets);  // it has been read
  WriteAll(logger.out, "the password is hunt");
  std::this_thread::sleep_for(std::chrono::milliseconds(20));
  WriteAll(logger.out, "er22, abc is too short\n");
  logger.out.reset();
  WriteAll(logger.err, "hunter22 without a newline");
  logger.err.reset();
  ASSERT_EQ(logger.Wait(), 0);
  EXPECT_THAT(TextsIn(path_), testing::UnorderedElementsAre("the password is ***, abc is too short",
                                                            "*** without a newline"));
}

TEST_F(Logger, RatherWritesNothingThanSecretsThatItCouldNotRead) {
  const std::filesystem::path secrets = directory_.path() / "secrets";
  for (const bool half_written : {false, true}) {
    if (half_written) {
      std::ofstream(secrets, std::ios::binary) << "hunter2";
    }
    LoggerProcess logger({"file", path_.string(), "secrets", secrets.string()});
    logger.AwaitReady();
    WriteAll(logger.out, "hunter22\n");
    logger.out.reset();
    logger.err.reset();
    ASSERT_EQ(logger.Wait(), 0);
    EXPECT_THAT(TextsIn(path_), ElementsAre(HasSubstr("is not recorded")));
    std::filesystem::remove(path_);
  }
}

TEST_F(Logger, RefusesWrongArguments) {
  for (const std::vector<std::string>& args : {std::vector<std::string>{},
                                               {"file"},
                                               {"file", "relative.log"},
                                               {"other", "/x"},
                                               {"file", path_.string(), "secrets"},
                                               {"file", path_.string(), "secrets", "relative"}}) {
    LoggerProcess logger(args);
    EXPECT_EQ(logger.Wait(), 2) << testing::PrintToString(args);
  }
}

TEST_F(Logger, LosesNoLineWhenTheServicePrintsFastAndTheLogRotates) {
  LoggerProcess logger(Args());
  logger.AwaitReady();
  LogFollower follower(path_);
  constexpr int kLines = 300'000;  // 30 MiB, and 13 MiB of headers
  std::thread service([&] {
    std::string block;
    for (int i = 0; i < kLines; ++i) {
      absl::StrAppend(&block, i, " ", std::string(90, 'x'), "\n");
      if (block.size() > 5000) {
        WriteAll(i % 2 == 0 ? logger.out : logger.err, block);
        block.clear();
      }
    }
    WriteAll(logger.out, block);
    logger.out.reset();
    logger.err.reset();
  });
  std::vector<bool> seen(kLines);
  int count = 0;
  bool ended = false;
  while (true) {
    ended = ended || logger.Wait(std::chrono::milliseconds(0)) == 0;
    const auto records = follower.ReadNew();
    ASSERT_TRUE(records.ok()) << records.status();
    for (const Record& record : *records) {
      int number = 0;
      ASSERT_TRUE(absl::SimpleAtoi(record.text.substr(0, record.text.find(' ')), &number));
      ASSERT_FALSE(seen[static_cast<size_t>(number)]) << "line " << number << " came twice";
      seen[static_cast<size_t>(number)] = true;
      ++count;
    }
    if (ended && records->empty()) {
      break;
    }
  }
  service.join();
  EXPECT_EQ(count, kLines);
  EXPECT_TRUE(std::filesystem::exists(path_.string() + ".3"));
  for (int number = 0; number <= kMaxRotated; ++number) {
    const std::string file =
        number == 0 ? path_.string() : absl::StrCat(path_.string(), ".", number);
    EXPECT_LE(std::filesystem::file_size(file), static_cast<uint64_t>(kMaxFileBytes));
  }
}

TEST_F(Logger, NeedsLittleMemoryForALineWithoutEnd) {
  LoggerProcess logger(Args());
  logger.AwaitReady();
  const std::string block(1 << 20, '\0');
  for (int i = 0; i < 200; ++i) {
    WriteAll(logger.out, block);
  }
  std::ifstream status(absl::StrCat("/proc/", logger.pid, "/status"));
  std::string line;
  int peak_kib = 0;
  while (std::getline(status, line)) {
    if (line.starts_with("VmHWM:")) {
      peak_kib = std::atoi(line.c_str() + 6);
    }
  }
  RecordProperty("peak KiB", peak_kib);
  EXPECT_GT(peak_kib, 0);
#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
  EXPECT_LT(peak_kib, 4096) << "each container pays for it";
#endif
}

TEST_F(Logger, OutlivesTheSignalsThatEndOthers) {
  LoggerProcess logger(Args());
  logger.AwaitReady();
  for (const int signal : {SIGHUP, SIGINT, SIGQUIT, SIGPIPE, SIGTERM}) {
    ::kill(logger.pid, signal);
  }
  std::this_thread::sleep_for(std::chrono::milliseconds(50));
  WriteAll(logger.out, "last words, printed after the signal\n");
  logger.out.reset();
  logger.err.reset();
  ASSERT_EQ(logger.Wait(), 0);
  EXPECT_THAT(TextsIn(path_), ElementsAre("last words, printed after the signal"));
}

TEST_F(Logger, EndsInTimeAfterSigtermWhateverHoldsThePipes) {
  LoggerProcess logger(Args());
  logger.AwaitReady();
  WriteAll(logger.out, "half a li");
  ::kill(logger.pid, SIGTERM);
  // The shim kills it after 12 seconds, and the half line would be lost.
  EXPECT_EQ(logger.Wait(std::chrono::seconds(11)), 0);
  EXPECT_THAT(TextsIn(path_), ElementsAre("half a li"));
}

TEST_F(Logger, GoesOnWhereAnotherWasKilled) {
  {
    LoggerProcess logger(Args());
    logger.AwaitReady();
    WriteAll(logger.out, "first\n");
    EXPECT_THAT(AwaitLines(path_, 1), ElementsAre("first"));
  }
  LoggerProcess logger(Args());
  logger.AwaitReady();
  WriteAll(logger.out, "second\n");
  EXPECT_THAT(AwaitLines(path_, 2), ElementsAre("first", "second"));
}

TEST_F(Logger, KeepsTheServiceRunningWithoutAPlaceForItsLog) {
  const std::filesystem::path folder = directory_.path() / "later";
  LoggerProcess logger({"file", (folder / "web.log").string()});
  logger.AwaitReady();
  WriteAll(logger.out, "lost one\nlost two\n");
  std::this_thread::sleep_for(std::chrono::milliseconds(1100));
  std::filesystem::create_directory(folder);
  WriteAll(logger.out, "kept\n");
  logger.out.reset();
  logger.err.reset();
  ASSERT_EQ(logger.Wait(), 0);
  const std::vector<std::string> texts = TextsIn(folder / "web.log");
  ASSERT_THAT(texts, testing::Contains("kept"));
  EXPECT_THAT(texts,
              testing::Contains(HasSubstr("2 lines were lost here: No such file or directory")));
}

TEST_F(Logger, SaysWhatAFullDiskCost) {
  const bool ran = OnSmallDisk(directory_.path(), [&] {
    LoggerProcess logger(Args());
    logger.AwaitReady();
    const std::string filler = directory_.path() / "filler";
    std::ofstream(filler) << std::string(100 << 10, 'x');
    constexpr int kLines = 20'000;
    for (int i = 0; i < kLines; ++i) {
      WriteAll(logger.out, absl::StrCat("line ", i, "\n"));
    }
    for (int unread = 1; unread > 0;) {
      ASSERT_EQ(::ioctl(logger.out.get(), FIONREAD, &unread), 0);
      std::this_thread::sleep_for(std::chrono::milliseconds(20));
    }
    std::filesystem::remove(filler);
    WriteAll(logger.err, "there is room again\n");
    logger.out.reset();
    logger.err.reset();
    ASSERT_EQ(logger.Wait(), 0);
    const std::vector<std::string> texts = TextsIn(path_);
    ASSERT_THAT(texts, testing::Contains("there is room again"));
    int64_t kept = 0, lost = 0;
    for (const std::string& text : texts) {
      int count = 0;
      if (text.starts_with("line ")) {
        EXPECT_EQ(text, absl::StrCat("line ", kept + lost))
            << "lines are lost in silence or damaged";
        ++kept;
      } else if (std::sscanf(text.c_str(), "vibe-logger: %d line", &count) == 1) {
        EXPECT_THAT(text, HasSubstr("No space left on device"));
        lost += count;
      }
    }
    EXPECT_GT(lost, 0);
    EXPECT_EQ(kept + lost, kLines);
  });
  if (!ran) {
    GTEST_SKIP() << "no mount namespace for a small disk here";
  }
}

TEST_F(Logger, StartsInNoTime) {
  std::vector<double> times;
  for (int i = 0; i < 50; ++i) {
    const auto start = std::chrono::steady_clock::now();
    LoggerProcess logger(Args());
    logger.AwaitReady();
    times.push_back(
        std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now() - start)
            .count());
    logger.out.reset();
    logger.err.reset();
    ASSERT_EQ(logger.Wait(), 0);
  }
  std::sort(times.begin(), times.end());
  RecordProperty("median ms", std::to_string(times[times.size() / 2]));
  std::printf("start: median %.2f ms, best %.2f ms\n", times[times.size() / 2], times[0]);
  EXPECT_LT(times[times.size() / 2], 20) << "every start of a service waits for it";
}

}  // namespace
}  // namespace vibe::logs
