#include "host/library.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/file.h"
#include "base/random.h"
#include "base/status.h"
#include "temp_dir.h"

namespace vibe::host {
namespace {

using ::testing::HasSubstr;
using ::testing::SizeIs;

ProjectRecord Sample(const std::string& name) {
  ProjectRecord record;
  record.id = RandomUuid();
  record.name = name;
  record.app_id = "com.example.notes";
  record.app_version = "1.2.3";
  record.path = "/home/ann/notes \"ü\"";
  record.created_at = absl::FromUnixSeconds(1'700'000'000);
  record.pending = Pending::kRemoveKeepingData;
  record.decisions.network = false;
  record.decisions.expose_ports = true;
  record.services = {
      {"web",
       "docker.io/library/nginx:1",
       {{80, manifest::Protocol::kTcp, true, 23456}, {53, manifest::Protocol::kUdp, false, 0}}},
      {"db", "postgres", {}}};
  return record;
}

TEST(ProjectRecord, ComesBackFromItsFileAsItWas) {
  const ProjectRecord record = Sample("notes");
  const auto again = RecordFromJson(RecordToJson(record));
  ASSERT_TRUE(again.ok()) << again.status();
  EXPECT_EQ(RecordToJson(*again), RecordToJson(record));
  EXPECT_EQ(again->pending, Pending::kRemoveKeepingData);
  EXPECT_EQ(again->decisions.network, std::optional<bool>(false));
  EXPECT_EQ(again->decisions.host_file_import, std::nullopt);
  EXPECT_EQ(again->services[0].ports[0].host_port, 23456);
}

TEST(ProjectRecord, EveryTruncatedFileIsRefused) {
  const std::string text = RecordToJson(Sample("notes"));
  for (size_t size = 0; size + 2 < text.size(); ++size) {
    EXPECT_FALSE(RecordFromJson(text.substr(0, size)).ok()) << size << " bytes";
  }
}

TEST(ProjectRecord, AFileOfALaterVersionIsNotGuessedAt) {
  std::string text = RecordToJson(Sample("notes"));
  text.replace(text.find("\"format\": 1"), 11, "\"format\": 2");
  EXPECT_FALSE(RecordFromJson(text).ok());
}

TEST(ProjectName, IsMadeOfAnyText) {
  EXPECT_EQ(Slug("My Notes!"), "my-notes");
  EXPECT_EQ(Slug("  --Ü--  "), "app");
  EXPECT_EQ(Slug("01234567-89ab-4cde-8f01-23456789abcd"), "app") << "an id is no name";
  EXPECT_TRUE(IsProjectName(Slug(std::string(500, 'x'))));
}

TEST(MergeServices, APortKeepsItsHostPortWhenTheAppChanges) {
  manifest::Manifest manifest;
  manifest.services.resize(2);
  manifest.services[0].name = "api";
  manifest.services[0].ports = {{80}};
  manifest.services[1].name = "web";
  manifest.services[1].ports = {{80}, {443}};
  const auto merged = MergeServices(manifest, Sample("notes").services);
  EXPECT_EQ(merged[0].ports[0].host_port, 0);
  EXPECT_EQ(merged[1].ports[0].host_port, 23456);
  EXPECT_EQ(merged[1].ports[1].host_port, 0);
}

TEST(Library, ProjectsAreThereAfterARestart) {
  const TempDir dir;
  const ProjectRecord notes = Sample("notes");
  {
    auto library = Library::Load(dir.path() / "projects");
    ASSERT_TRUE(library.ok()) << library.status();
    ASSERT_TRUE((*library)->Put(Sample("todo")).ok());
    ASSERT_TRUE((*library)->Put(notes).ok());
  }
  auto library = Library::Load(dir.path() / "projects");
  ASSERT_TRUE(library.ok());
  ASSERT_THAT((*library)->All(), SizeIs(2));
  EXPECT_EQ((*library)->All()[0].name, "notes");
  EXPECT_EQ((*library)->Find(notes.id)->name, "notes");
  EXPECT_EQ((*library)->Find("notes")->id, notes.id);
  EXPECT_EQ(ReasonOf((*library)->Find("nope").status()), Reason::kNotFound);
}

TEST(Library, ABrokenFileIsReportedAndTheOthersStillLoad) {
  const TempDir dir;
  const ProjectRecord good = Sample("good");
  {
    auto library = Library::Load(dir.path());
    ASSERT_TRUE((*library)->Put(good).ok());
  }
  const std::string bad = RandomUuid();
  dir.Write(bad + "/project.json", "{\"format\":1");
  dir.Write("notes.txt", "not ours");
  auto library = Library::Load(dir.path());
  ASSERT_TRUE(library.ok());
  EXPECT_THAT((*library)->All(), SizeIs(1));
  ASSERT_THAT((*library)->broken(), SizeIs(1));
  EXPECT_THAT((*library)->broken()[0], HasSubstr(bad));
  EXPECT_TRUE(ReadFile(dir.path() / bad / "project.json", 100).ok()) << "it was not left alone";
}

// What a crash between write and rename leaves: the old file whole, and a temporary one beside it.
TEST(Library, ACrashWhileItWritesLosesNothing) {
  const TempDir dir;
  ProjectRecord record = Sample("notes");
  {
    auto library = Library::Load(dir.path());
    ASSERT_TRUE((*library)->Put(record).ok());
  }
  dir.Write(record.id + "/project.json.tmp-1234", "{\"for");
  auto library = Library::Load(dir.path());
  ASSERT_THAT((*library)->All(), SizeIs(1));
  EXPECT_TRUE((*library)->broken().empty());
  record.path = "/elsewhere";
  ASSERT_TRUE((*library)->Put(record).ok());
  ASSERT_TRUE((*library)->Remove(record.id).ok());
  EXPECT_FALSE(std::filesystem::exists(dir.path() / record.id)) << "the temporary file stayed";
}

TEST(Library, TwoProjectsCannotHaveOneName) {
  const TempDir dir;
  auto library = Library::Load(dir.path());
  ASSERT_TRUE((*library)->Put(Sample("notes")).ok());
  EXPECT_EQ(ReasonOf((*library)->Put(Sample("notes"))), Reason::kConflict);
}

TEST(Library, AProjectRemovedWithItsDataKeptIsFoundByTheSameApp) {
  const TempDir dir;
  auto library = Library::Load(dir.path());
  ProjectRecord record = Sample("notes");
  record.removed = true;
  ASSERT_TRUE((*library)->Put(record).ok());
  EXPECT_TRUE((*library)->All().empty());
  EXPECT_FALSE((*library)->Find("notes").ok());
  EXPECT_EQ((*library)->FindForOpen("notes", record.app_id)->id, record.id);
  EXPECT_FALSE((*library)->FindForOpen("notes", "com.example.other"));
  EXPECT_TRUE((*library)->Put(Sample("notes")).ok()) << "the name is free";
}

TEST(Library, KeptDataIsFoundByNameUntilTwoHaveIt) {
  const TempDir dir;
  auto library = Library::Load(dir.path());
  ASSERT_TRUE((*library)->Put(Sample("here")).ok());
  ProjectRecord first = Sample("notes");
  first.removed = true;
  ASSERT_TRUE((*library)->Put(first).ok());
  ASSERT_EQ((*library)->Kept().size(), 1u);
  EXPECT_EQ((*library)->FindKept("notes")->id, first.id);
  EXPECT_EQ(ReasonOf((*library)->FindKept("here").status()), Reason::kNotFound);
  EXPECT_THAT(AdviceOf((*library)->Find("notes").status()), HasSubstr("`vibe rm notes`"));
  ProjectRecord second = Sample("notes");
  second.removed = true;
  ASSERT_TRUE((*library)->Put(second).ok());
  const absl::Status several = (*library)->FindKept("notes").status();
  EXPECT_EQ(several.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(AdviceOf(several), HasSubstr(first.id));
  EXPECT_THAT(AdviceOf(several), HasSubstr(second.id));
  EXPECT_EQ((*library)->FindKept(second.id)->id, second.id);
}

}  // namespace
}  // namespace vibe::host
