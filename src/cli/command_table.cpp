// All that vibe can do, as plain values.
#include <utility>

#include "cli/definitions.h"

namespace vibe::cli {
namespace {

using Example = CommandText::Example;

OptionText Argument(const std::string& name, const std::string& description) {
  return {{name}, "", description, true, true, false};
}

OptionText OptionalArgument(const std::string& name, const std::string& description) {
  return {{name}, "", description, true, false, false};
}

OptionText RepeatedArgument(const std::string& name, const std::string& description) {
  return {{name}, "", description, true, true, true};
}

OptionText Flag(std::vector<std::string> names, const std::string& description) {
  return {std::move(names), "", description, false, false, false};
}

OptionText Value(std::vector<std::string> names, const std::string& value,
                 const std::string& description) {
  return {std::move(names), value, description, false, false, false};
}

OptionText ProjectName() {
  return Argument("NAME", "the project's name or id, as `vibe ps` shows it");
}

OptionText StopTimeout() {
  return Value({"-t", "--timeout"}, "SECONDS",
               "how long services may take to end before they are killed (30)");
}

OptionText Follow() {
  return Flag({"-f", "--follow"}, "go on with new lines until Ctrl-C");
}

OptionText Tail() {
  return Value({"-n", "--tail"}, "N", "how many lines to begin with (100)");
}

CommandText Open() {
  OptionText port =
      Value({"-p", "--port"}, "CHOICE",
            "SERVICE:HOSTPORT, this computer's port for a service, from now on; "
            "SERVICE:HOSTPORT:PORT when it has several, /udp behind it for one of UDP, 0 for any; "
            "may be given several times");
  port.repeated = true;
  return {
      "open",
      "open an app and start it",
      "Opens the app in PATH and starts it: checks its manifest, asks for what the app wants to be "
      "allowed, gets the images that are missing, starts the services in the order of their "
      "dependencies and prints the address of the app once they answer.\n\n"
      "Each answer is kept for this project, so that you are asked once. To open what is open "
      "already "
      "is harmless; an app that has changed is brought up to date.",
      {Argument("PATH", "a folder with a vibe.yaml, or the vibe.yaml itself"),
       Value({"-n", "--name"}, "NAME",
             "the name of the project; without it, one is made of the app's"),
       Flag({"-y", "--yes"}, "allow everything that the app asks for, without a question"), port},
      {},
      {{"vibe open examples/notes", "open an app and answer its questions"},
       {"vibe open notes --name work --yes", "a second project of the app, nothing asked"},
       {"vibe open notes --port web:8080", "always at http://localhost:8080"},
       {"vibe open . --yes --json | jq -r .url", "the address, for a script"}}};
}

CommandText Start() {
  return {"start",
          "start a project's services",
          "Starts the services of a project in the order of their dependencies and waits until "
          "they answer. "
          "A project that runs already is left alone.",
          {ProjectName()},
          {},
          {{"vibe start notes", "start it and print its address"}}};
}

CommandText Stop() {
  return {
      "stop",
      "stop a project's services",
      "Stops the services of a project in reverse order. Each is asked to end, and killed when it "
      "has not after the timeout. Data stays.",
      {ProjectName(), StopTimeout()},
      {},
      {{"vibe stop notes", "stop it; `vibe start notes` runs it again"},
       {"vibe stop notes --timeout 5", "with little patience"}}};
}

CommandText RestartCommand() {
  return {"restart",
          "stop a project and start it again",
          "Stops the services of a project and starts them again. Data and address stay.",
          {ProjectName(), StopTimeout()},
          {},
          {{"vibe restart notes", "stop and start"}}};
}

OptionText Capability() {
  return RepeatedArgument("CAPABILITY",
                          "network (the internet), exposePorts (an address on this computer) or "
                          "hostFileImport");
}

CommandText Grant() {
  return {
      "grant",
      "allow a project something that its app asks for",
      "Allows a project what its app asks for and was refused, or what was taken back. It holds "
      "at once: services that run need no restart.",
      {ProjectName(), Capability()},
      {},
      {{"vibe grant notes network", "let its services reach the internet"}}};
}

CommandText Revoke() {
  return {"revoke",
          "take back what a project was allowed",
          "Takes back what a project was allowed. It holds at once: without network, nothing goes "
          "to the internet any more, on connections that are open neither, and each of those ends "
          "with its next packet; without exposePorts, its address is gone. The services run on.",
          {ProjectName(), Capability()},
          {},
          {{"vibe revoke notes network", "cut it off from the internet"},
           {"vibe revoke notes network exposePorts", "from this computer as well"}}};
}

CommandText Ps() {
  return {
      "ps",
      "list projects, or the services of one",
      "Lists all projects with their state and address; with NAME, the facts of one project and "
      "each of its services.",
      {OptionalArgument("NAME", "show this project and its services")},
      {},
      {{"vibe ps", "all projects"},
       {"vibe ps notes", "one, with its services"},
       {"vibe ps --json | jq -r '.projects[].name'", "for a script"}}};
}

CommandText Ports() {
  return {"ports",
          "list the ports of a project",
          "Lists the ports of a project's services, where this computer has those that are "
          "exposed, and what went through them since they were opened: connections (of UDP "
          "each client counts as one) and bytes. A port stays the same for the project's life; "
          "`vibe open --port` chooses it.\n\n"
          "Ports are on 127.0.0.1 and ::1: only this computer reaches them. Browsers also find a "
          "project at http://NAME.localhost:PORT, where it has cookies of its own.",
          {ProjectName()},
          {},
          {{"vibe ports notes", "where its services are"},
           {"vibe ports notes --json | jq '.ports[0].hostPort'", "for a script"}}};
}

CommandText Logs() {
  return {
      "logs",
      "show what the services wrote",
      "Shows the last lines of the services' output, oldest first. On a terminal control "
      "characters are "
      "shown as escapes; into a pipe or a file lines go as they were written. Each line begins "
      "with its service unless one was chosen.\n\n"
      "With --json the lines are one document; with --json and --follow each line is a "
      "document of its own.",
      {ProjectName(), Follow(), Tail(), Value({"-s", "--service"}, "SERVICE", "this service only")},
      {},
      {{"vibe logs notes", "the last 100 lines"},
       {"vibe logs -f -n 0 notes", "only what comes from now on"},
       {"vibe logs -s db notes > db.log", "one service, into a file"}}};
}

CommandText Exec() {
  return {
      "exec",
      "run a command inside a service",
      "Runs a command in a service's container and ends with the command's exit code. When "
      "standard "
      "input and output are a terminal the command gets a terminal and your input; otherwise say "
      "-i to "
      "pass input on. Signals are passed on too.",
      {ProjectName(), RepeatedArgument("COMMAND", "the command and its arguments, best after --"),
       Value({"-s", "--service"}, "SERVICE",
             "in this service; needless when the project has one only"),
       Flag({"-i", "--interactive"}, "pass standard input on"),
       Flag({"--no-interactive"}, "give the command no input"),
       Flag({"-t", "--tty"}, "give the command a terminal"),
       Flag({"--no-tty"}, "give the command no terminal")},
      {},
      {{"vibe exec notes -- sh", "a shell in an app of one service"},
       {"vibe exec -s db bookmarks -- psql -U bookmarks", "the database's own tool"},
       {"vibe exec -i -s db bookmarks -- psql -U bookmarks < seed.sql", "with input from a file"}}};
}

CommandText Rm() {
  return {
      "rm",
      "remove a project",
      "Stops a project and removes it: its containers, its network and, unless --keep-data is "
      "given, its data. Asks first on a terminal; without one --yes is needed. The app's own "
      "folder "
      "is not touched.\n\n"
      "Also deletes the data that an earlier --keep-data kept, which `vibe ps` lists, and "
      "removes what `vibe doctor` calls a stray project: one that the machine has and this "
      "computer no record of.",
      {ProjectName(), Flag({"-y", "--yes"}, "do not ask"),
       Flag({"--keep-data"}, "keep the data; opening the app under the same name finds it again")},
      {},
      {{"vibe rm notes", "remove it with its data, after a question"},
       {"vibe rm notes --keep-data --yes", "keep the data, ask nothing"}}};
}

OptionText SnapshotId() {
  return Argument("ID", "the snapshot's id, or at least four characters that only one begins with");
}

CommandText Save() {
  OptionText label =
      Value({"--label"}, "KEY=VALUE", "a label; may be given several times, each key once");
  label.repeated = true;
  return {"save",
          "take a snapshot of a project's data",
          "Takes a snapshot of all data of a project at one instant, while it runs: it takes "
          "milliseconds and no space until the data changes. Databases are saved so that the "
          "snapshot opens as a whole; what is checked afterwards is in `vibe snapshots`. Old "
          "snapshots give way when there are more than the manifest's state.retention allows.\n\n"
          "Services that have a preSave hook in the manifest run it first; when one fails, nothing "
          "is saved.",
          {ProjectName(), Value({"-m", "--message"}, "TEXT", "what it is for"), label,
           Flag({"--skip-hooks"}, "save without running the services' preSave hooks")},
          {},
          {{"vibe save notes", "before something risky"},
           {"vibe save notes -m 'before the import' --label by=me", "with a word about it"}}};
}

CommandText Snapshots() {
  return {"snapshots",
          "list the snapshots of a project",
          "Lists the snapshots of a project, newest first, with what is to be said against one.",
          {ProjectName()},
          {},
          {{"vibe snapshots notes", "all of them"},
           {"vibe snapshots notes --json | jq -r '.snapshots[0].id'", "the newest, for a script"}}};
}

CommandText Restore() {
  return {"restore",
          "put a project's data back to a snapshot",
          "Stops the project, puts the data of a snapshot in the place of its own, and starts it "
          "when it ran. Before that, a snapshot of the present data is taken, so that a restore "
          "can be undone. If a step fails, the present data stays.\n\n"
          "Services that have a postRestore hook in the manifest run it once they are ready.",
          {ProjectName(), SnapshotId(),
           Flag({"--no-safety"}, "take no snapshot of the present data: it is lost"),
           Flag({"--verify"}, "compare every byte of the snapshot with its digests first"),
           Flag({"--skip-hooks"}, "run none of the services' hooks")},
          {},
          {{"vibe restore notes 4f1c", "the data as it was"},
           {"vibe restore notes 4f1c --verify", "after a disk had errors"}}};
}

CommandText Duplicate() {
  return {
      "duplicate",
      "make a new project with a copy of another's data",
      "Makes a project NEW of the same app with a copy of the data, at once and without "
      "taking space until one of the two changes. It has addresses of its own; neither "
      "secrets nor what was allowed to the first are copied. Opening it asks, and starts it.\n\n"
      "One that is interrupted leaves a whole copy or none.",
      {ProjectName(), Argument("NEW", "the name of the new project"),
       Value({"--from"}, "ID", "the data of this snapshot; without it, of now")},
      {},
      {{"vibe duplicate notes trial", "a copy to try things with"},
       {"vibe duplicate notes march --from 4f1c", "as it was in a snapshot"}}};
}

CommandText Snapshot() {
  CommandText snapshot;
  snapshot.name = "snapshot";
  snapshot.summary = "remove a snapshot";
  snapshot.description =
      "What can be done with one snapshot. `vibe save` takes one, `vibe snapshots` lists them.";
  snapshot.subcommands = {{"rm",
                           "remove a snapshot",
                           "Removes a snapshot; the project's data and its other snapshots stay.",
                           {ProjectName(), SnapshotId()},
                           {},
                           {{"vibe snapshot rm notes 4f1c", "get its space back"}}}};
  return snapshot;
}

CommandText Validate() {
  return {"validate",
          "check a manifest",
          "Checks the manifest of an app and prints every fault as file:line:column. Needs nothing "
          "but the "
          "file: no machine is started. The exit code is 1 when there is an error; warnings are "
          "no errors.",
          {Argument("PATH", "a folder with a vibe.yaml, or the vibe.yaml itself")},
          {},
          {{"vibe validate examples/notes", "check one app"},
           {"vibe validate --json .", "the faults for an editor or a script"}}};
}

CommandText Machine() {
  CommandText machine;
  machine.name = "machine";
  machine.summary = "show, start, stop or reset the machine that runs the apps";
  machine.description =
      "All projects run in one Linux machine, which is started when it is first needed. These "
      "commands show it, start it ahead of time, stop it to get its memory back, or begin anew.";
  machine.subcommands = {
      {"status",
       "show the state of the machine",
       "Shows whether the machine runs, of which kind it is and why, and the space on its disk.",
       {},
       {},
       {{"vibe machine status", "state, kind and disk"}}},
      {"start",
       "start the machine",
       "Starts the machine and waits until it is ready. One that runs already is left alone.",
       {},
       {},
       {{"vibe machine start", "before the first app is opened"}}},
      {"stop",
       "stop the machine",
       "Stops the machine. Data stays, and the projects that were running run again when the "
       "machine "
       "is started. A virtual machine is suspended where it can be: its memory is saved, services "
       "stand still, and the next start goes on where they were. With --off, and where machines "
       "cannot be saved, all services are stopped cleanly first.",
       {Flag({"--off"}, "power off; the next start boots")},
       {},
       {{"vibe machine stop", "get its memory and processors back"},
        {"vibe machine stop --off", "and begin with a boot the next time"}}},
      {"restart",
       "stop the machine and start it again",
       "Stops all services cleanly and then the machine, and boots it again. The projects that "
       "were "
       "running run again. A stopped machine is started.",
       {},
       {},
       {{"vibe machine restart", "when something in it is not as it should be"}}},
      {"logs",
       "show what the machine said",
       "Shows the last lines of the machine's console, oldest first: its kernel, its first "
       "process, "
       "and what went wrong with it. Works while the machine is stopped. On a terminal control "
       "characters are shown as escapes.\n\n"
       "With --json the lines are one document; with --json and --follow each line is a document "
       "of "
       "its own.",
       {Follow(), Tail()},
       {},
       {{"vibe machine logs", "the last 100 lines"},
        {"vibe machine logs -n 20 -f", "the last 20, and then what comes"}}},
      {"reset",
       "delete all projects and begin with an empty machine",
       "Stops the machine, by force when it does not listen, and deletes its disk: all projects, "
       "their data and all images. The apps' own folders are not touched; open them again "
       "afterwards. For a machine that does not start any more, such as one whose disk is damaged. "
       "Says what would go and asks first on a terminal; without one --yes is needed.",
       {Flag({"-y", "--yes"}, "do not ask")},
       {},
       {{"vibe machine reset", "after a question that has to be answered with a word"},
        {"vibe machine reset --yes --json", "for a script"}}},
  };
  return machine;
}

CommandText Doctor() {
  return {"doctor",
          "check this computer for what Vibe needs",
          "Checks everything that Vibe needs on this computer and says what to do about what is "
          "missing. The exit code is 1 when something must be mended.",
          {},
          {},
          {{"vibe doctor", "a line for each check"}}};
}

CommandText Version() {
  return {"version",
          "print the version",
          "Prints the version of vibe and, when it runs, of vibed, its background process. `vibe "
          "--version` does the same.",
          {},
          {},
          {{"vibe version", "what to name in a bug report"}}};
}

CommandText Completion() {
  return {
      "completion",
      "print the completion script of a shell",
      "Prints a script that lets a shell complete commands, options, and the names of projects and "
      "services.",
      {Argument("SHELL", "bash, zsh or fish")},
      {},
      {{"source <(vibe completion bash)", "for this bash"},
       {"vibe completion zsh > ~/.zfunc/_vibe", "for zsh, in a folder of its fpath"},
       {"vibe completion fish > ~/.config/fish/completions/vibe.fish", "for fish"}}};
}

CommandText Man() {
  return {"man",
          "print the manual page",
          "Prints the manual page in the format that man(1) reads.",
          {},
          {},
          {{"vibe man > vibe.1; man ./vibe.1", "read it"}}};
}

CommandText Help() {
  return {"help",
          "explain a command",
          "Explains a command, as --help after it does.",
          {{{"COMMAND"}, "", "the command; without it, all of them are listed", true, false, true}},
          {},
          {{"vibe help open", "what open does"},
           {"vibe help machine start", "a command of two words"}}};
}

}  // namespace

CommandText DescribeCommands() {
  CommandText root;
  root.name = "vibe";
  root.summary = "run apps with their databases on this computer";
  root.description =
      "Vibe opens an app with everything that it needs, keeps it apart from all others, and gives "
      "you its address.";
  root.options = {
      Flag({"--json"}, "print the result as one JSON document; an error too, as {\"error\":…}"),
      Flag({"--no-color"}, "print without colours, as with NO_COLOR in the environment"),
      Value({"--home"}, "DIR", "where Vibe keeps its files (VIBE_HOME, else ~/.vibe)"),
      Flag({"-h", "--help"}, "explain the command"),
  };
  root.subcommands = {Open(),       Start(),    Stop(),      RestartCommand(), Grant(),
                      Revoke(),     Ps(),       Ports(),     Logs(),           Exec(),
                      Rm(),         Save(),     Snapshots(), Restore(),        Duplicate(),
                      Snapshot(),   Validate(), Machine(),   Doctor(),         Version(),
                      Completion(), Man(),      Help()};
  root.examples = {{"vibe open examples/notes", "open an app; prints its address"},
                   {"vibe ps", "what runs"},
                   {"vibe logs -f notes", "what it says"},
                   {"vibe stop notes", "stop it; its data stays"}};
  return root;
}

const CommandText* FindCommand(const CommandText& root, const std::vector<std::string>& words) {
  const CommandText* command = &root;
  for (const std::string& word : words) {
    const CommandText* next = nullptr;
    for (const CommandText& candidate : command->subcommands) {
      next = candidate.name == word ? &candidate : next;
    }
    if (next == nullptr) {
      return nullptr;
    }
    command = next;
  }
  return command;
}

}  // namespace vibe::cli
