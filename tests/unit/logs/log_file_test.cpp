#include "logs/log_file.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>

#include <atomic>
#include <chrono>
#include <fstream>
#include <set>
#include <thread>

#include "../base/temporary_directory.h"
#include "absl/strings/str_cat.h"
#include "logs/rotating_file.h"

namespace vibe::logs {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;

std::vector<std::string> Texts(const absl::StatusOr<std::vector<Record>>& records) {
  EXPECT_TRUE(records.ok()) << records.status();
  std::vector<std::string> texts;
  if (records.ok()) {
    for (const Record& record : *records) {
      texts.push_back(record.text);
    }
  }
  return texts;
}

class Log : public testing::Test {
 protected:
  // Lines with small files, so that a test can rotate often.
  void WriteSmall(RotatingFile& file, const std::string& text, Stream stream = Stream::kStdout,
                  bool partial = false) {
    std::string line;
    AppendRecordLine({}, stream, partial, text, line);
    size_t written = 0;
    ASSERT_EQ(file.Append(line, written), 0);
    ASSERT_EQ(written, line.size());
  }
  void AppendRaw(const std::string& bytes) {
    std::ofstream(path_, std::ios::binary | std::ios::app) << bytes;
  }
  std::filesystem::path Rotated(int number) const {
    return absl::StrCat(path_.string(), ".", number);
  }

  const TemporaryDirectory directory_;
  const std::filesystem::path path_ = directory_.path() / "web.log";
};

TEST_F(Log, ThatIsNotThereHasNoLines) {
  EXPECT_THAT(Texts(ReadTail(path_, 10)), IsEmpty());
  LogFollower follower(path_);
  EXPECT_THAT(Texts(follower.ReadTail(10)), IsEmpty());
  EXPECT_THAT(Texts(follower.ReadNew()), IsEmpty());
}

TEST_F(Log, GivesItsLastLinesOldestFirst) {
  auto writer = LogWriter::Open(path_);
  ASSERT_TRUE(writer.ok()) << writer.status();
  const absl::Time time = absl::FromUnixNanos(1767322985123456789);
  for (int i = 0; i < 10; ++i) {
    ASSERT_TRUE(writer
                    ->Append({.time = time + absl::Seconds(i),
                              .stream = i % 2 == 0 ? Stream::kStdout : Stream::kStderr,
                              .text = absl::StrCat("line ", i)})
                    .ok());
  }
  EXPECT_THAT(Texts(ReadTail(path_, 3)), ElementsAre("line 7", "line 8", "line 9"));
  EXPECT_THAT(Texts(ReadTail(path_, 0)), IsEmpty());
  EXPECT_EQ(Texts(ReadTail(path_, 10)).size(), 10U);
  EXPECT_EQ(Texts(ReadTail(path_, SIZE_MAX)).size(), 10U);
  const auto last = ReadTail(path_, 1);
  ASSERT_TRUE(last.ok());
  EXPECT_EQ(last->front().time, time + absl::Seconds(9));
  EXPECT_EQ(last->front().stream, Stream::kStderr);
  struct stat info {};
  ASSERT_EQ(::stat(path_.c_str(), &info), 0);
  EXPECT_EQ(info.st_mode & 0777, 0600U) << "others could read what the service prints";
}

TEST_F(Log, JoinsLongLines) {
  auto writer = LogWriter::Open(path_);
  ASSERT_TRUE(writer.ok());
  const std::string longer(5 * kMaxLineBytes + 3, 'x');
  ASSERT_TRUE(writer->Append({.text = "before"}).ok());
  ASSERT_TRUE(writer->Append({.text = longer}).ok());
  EXPECT_THAT(Texts(ReadTail(path_, 1)), ElementsAre(longer));
  EXPECT_THAT(Texts(ReadTail(path_, 2)), ElementsAre("before", longer));
}

TEST_F(Log, KeepsTheStreamsApartWhenItJoins) {
  RotatingFile file(path_.string(), 1 << 20, 3);
  ASSERT_EQ(file.Open(), 0);
  WriteSmall(file, "o1", Stream::kStdout, true);
  WriteSmall(file, "e1", Stream::kStderr, true);
  WriteSmall(file, "o2", Stream::kStdout);
  WriteSmall(file, "e2", Stream::kStderr);
  WriteSmall(file, "still being wri", Stream::kStderr, true);
  EXPECT_THAT(Texts(ReadTail(path_, 5)), ElementsAre("o1o2", "e1e2"));
  EXPECT_THAT(Texts(ReadTail(path_, 1)), ElementsAre("e1e2"));

  LogFollower follower(path_);
  EXPECT_THAT(Texts(follower.ReadTail(1)), ElementsAre("e1e2"));
  EXPECT_THAT(Texts(follower.ReadNew()), IsEmpty());
  WriteSmall(file, "new", Stream::kStdout);
  WriteSmall(file, "tten", Stream::kStderr);
  EXPECT_THAT(Texts(follower.ReadNew()), ElementsAre("new", "still being written"));
}

TEST_F(Log, RotatesAndLosesNoLine) {
  RotatingFile file(path_.string(), 1000, 3);
  ASSERT_EQ(file.Open(), 0);
  // 45 bytes each: 22 in a file, 88 in four.
  for (int i = 1000; i < 1088; ++i) {
    WriteSmall(file, absl::StrCat(i));
  }
  EXPECT_TRUE(std::filesystem::exists(Rotated(3)));
  EXPECT_FALSE(std::filesystem::exists(Rotated(4)));
  EXPECT_FALSE(std::filesystem::exists(path_.string() + ".new"));
  const std::vector<std::string> all = Texts(ReadTail(path_, SIZE_MAX));
  ASSERT_EQ(all.size(), 88U);
  for (size_t i = 0; i < all.size(); ++i) {
    EXPECT_EQ(all[i], absl::StrCat(1000 + i));
  }
  EXPECT_THAT(Texts(ReadTail(path_, 24)), testing::Contains("1064").Times(1));
  WriteSmall(file, "1088");
  EXPECT_EQ(Texts(ReadTail(path_, SIZE_MAX)).size(), 67U) << "the oldest file makes room";
}

TEST_F(Log, IsWrittenOnWhenItCannotBeRotated) {
  RotatingFile file(path_.string(), 1000, 3);
  ASSERT_EQ(file.Open(), 0);
  std::filesystem::create_directory(path_.string() + ".new");
  for (int i = 0; i < 50; ++i) {
    WriteSmall(file, absl::StrCat(i));
  }
  EXPECT_EQ(Texts(ReadTail(path_, SIZE_MAX)).size(), 50U);
  std::filesystem::remove(path_.string() + ".new");
  WriteSmall(file, "50");
  EXPECT_TRUE(std::filesystem::exists(Rotated(1)));
  EXPECT_EQ(Texts(ReadTail(path_, SIZE_MAX)).size(), 51U);
}

TEST_F(Log, GoesOnAfterAHalfLine) {
  {
    auto writer = LogWriter::Open(path_);
    ASSERT_TRUE(writer->Append({.text = "whole"}).ok());
  }
  AppendRaw("2026-01-02T03:04:05.123456789Z stdo");
  EXPECT_THAT(Texts(ReadTail(path_, 5)), ElementsAre("whole"));
  auto writer = LogWriter::Open(path_);
  ASSERT_TRUE(writer->Append({.text = "after"}).ok());
  EXPECT_THAT(Texts(ReadTail(path_, 5)), ElementsAre("whole", "after"));
}

TEST_F(Log, SkipsWhatIsNoRecord) {
  AppendRaw("\n\nnonsense\n");
  AppendRaw(std::string(3 << 20, 'x'));
  AppendRaw("\n2026-01-02T03:04:05.123456789Z stdout F good\n");
  AppendRaw(std::string(1 << 20, '\0'));
  EXPECT_THAT(Texts(ReadTail(path_, 5)), ElementsAre("good"));
  LogFollower follower(path_);
  AppendRaw("\n2026-01-02T03:04:05.123456789Z stdout F better\n");
  EXPECT_THAT(Texts(follower.ReadNew()), ElementsAre("better"));
}

TEST_F(Log, GivesAnEndlessLineInPieces) {
  RotatingFile file(path_.string(), 100 << 20, 3);
  ASSERT_EQ(file.Open(), 0);
  LogFollower follower(path_);
  constexpr size_t kRecords = 1000;
  for (size_t i = 0; i < kRecords; ++i) {
    WriteSmall(file, std::string(kMaxLineBytes, 'x'), Stream::kStdout, true);
  }
  WriteSmall(file, "end");
  size_t bytes = 0;
  for (auto records = follower.ReadNew(); records.ok() && !records->empty();
       records = follower.ReadNew()) {
    for (const Record& record : *records) {
      EXPECT_LE(record.text.size(), kMaxJoinedBytes + kMaxLineBytes);
      EXPECT_EQ(record.partial, !record.text.ends_with("end"));
      bytes += record.text.size();
    }
  }
  EXPECT_EQ(bytes, kRecords * kMaxLineBytes + 3);
  const auto tail = ReadTail(path_, 2);
  ASSERT_TRUE(tail.ok());
  ASSERT_EQ(tail->size(), 2U);
  EXPECT_TRUE(tail->front().partial);
  EXPECT_TRUE(tail->back().text.ends_with("end"));
}

TEST_F(Log, HasItsTailReadFromTheEnd) {
  {
    std::ofstream file(path_, std::ios::binary);
    std::string block;
    for (int i = 0; i < 1000; ++i) {
      block += FormatRecord({.text = std::string(200, 'x')});
    }
    for (int i = 0; i < 400; ++i) {
      file << block;
    }
  }
  ASSERT_GT(std::filesystem::file_size(path_), 90U << 20);
  const auto start = std::chrono::steady_clock::now();
  EXPECT_EQ(Texts(ReadTail(path_, 100)).size(), 100U);
  const std::chrono::duration<double, std::milli> took = std::chrono::steady_clock::now() - start;
  RecordProperty("milliseconds", std::to_string(took.count()));
  EXPECT_LT(took.count(), 50) << "`vibe logs` would wait for the whole file";
}

TEST_F(Log, IsFollowedThroughRotationsByAnyNumberOfFiles) {
  RotatingFile file(path_.string(), 1000, 3);
  ASSERT_EQ(file.Open(), 0);
  LogFollower follower(path_);
  std::vector<std::string> expected;
  std::vector<std::string> seen;
  int next = 1000;
  for (const int burst : {1, 5, 22, 23, 44, 66, 0, 3, 66, 60}) {
    for (int i = 0; i < burst; ++i, ++next) {
      WriteSmall(file, absl::StrCat(next));
      expected.push_back(absl::StrCat(next));
    }
    for (const std::string& text : Texts(follower.ReadNew())) {
      seen.push_back(text);
    }
  }
  EXPECT_EQ(seen, expected);
}

TEST_F(Log, IsFollowedFromTheOldestFileThereIsByOneWhoFellBehind) {
  RotatingFile file(path_.string(), 1000, 3);
  ASSERT_EQ(file.Open(), 0);
  LogFollower follower(path_);
  WriteSmall(file, "first");
  EXPECT_THAT(Texts(follower.ReadNew()), ElementsAre("first"));
  for (int i = 1000; i < 1300; ++i) {
    WriteSmall(file, absl::StrCat(i));
  }
  const std::vector<std::string> seen = Texts(follower.ReadNew());
  ASSERT_GE(seen.size(), 88U) << "what is still there must be seen";
  EXPECT_EQ(seen.back(), "1299");
  EXPECT_EQ(std::set<std::string>(seen.begin(), seen.end()).size(), seen.size());
}

TEST_F(Log, IsFollowedWhenItIsEmptiedRemovedAndMadeAnew) {
  auto writer = LogWriter::Open(path_);
  ASSERT_TRUE(writer->Append({.text = "old"}).ok());
  LogFollower follower(path_);
  ASSERT_TRUE(writer->Append({.text = "one"}).ok());
  EXPECT_THAT(Texts(follower.ReadNew()), ElementsAre("one"));
  std::filesystem::resize_file(path_, 0);
  ASSERT_TRUE(writer->Append({.text = "two"}).ok());
  EXPECT_THAT(Texts(follower.ReadNew()), ElementsAre("two"));
  std::filesystem::remove(path_);
  EXPECT_THAT(Texts(follower.ReadNew()), IsEmpty());
  auto again = LogWriter::Open(path_);
  ASSERT_TRUE(again->Append({.text = "three"}).ok());
  EXPECT_THAT(Texts(follower.ReadNew()), ElementsAre("three"));
}

TEST_F(Log, TailAndFollowerTogetherMissAndRepeatNothing) {
  std::atomic<bool> stop = false;
  std::atomic<int> written = 0;
  std::thread writer([&] {
    RotatingFile file(path_.string(), 20'000, 3);
    ASSERT_EQ(file.Open(), 0);
    while (!stop) {
      // Slower than a reader, which could lose its place otherwise.
      WriteSmall(file, absl::StrCat(written++));
      if (written % 20 == 0) {
        std::this_thread::sleep_for(std::chrono::milliseconds(1));
      }
    }
  });
  for (int round = 0; round < 20; ++round) {
    LogFollower follower(path_);
    std::vector<std::string> seen = Texts(follower.ReadTail(50));
    for (int i = 0; i < 20; ++i) {
      std::this_thread::sleep_for(std::chrono::milliseconds(2));
      for (const std::string& text : Texts(follower.ReadNew())) {
        seen.push_back(text);
      }
    }
    for (size_t i = 1; i < seen.size(); ++i) {
      ASSERT_EQ(std::stoi(seen[i]), std::stoi(seen[i - 1]) + 1) << "in round " << round;
    }
  }
  stop = true;
  writer.join();
  EXPECT_GT(written, 500);
}

TEST_F(Log, TellsWhyItCannotBeWrittenOrRead) {
  EXPECT_FALSE(LogWriter::Open(directory_.path() / "none" / "web.log").ok());
  std::filesystem::create_directory(path_);
  EXPECT_FALSE(LogWriter::Open(path_).ok());
  EXPECT_FALSE(ReadTail(path_, 1).ok());
  LogFollower follower(path_);
  EXPECT_FALSE(follower.ReadNew().ok());
}

TEST_F(Log, IsNotFollowedThroughASymbolicLink) {
  std::filesystem::create_symlink("/etc/passwd", path_);
  EXPECT_FALSE(ReadTail(path_, 1).ok());
  EXPECT_FALSE(LogWriter::Open(path_).ok());
}

}  // namespace
}  // namespace vibe::logs
