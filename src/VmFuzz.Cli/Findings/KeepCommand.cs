using System.Globalization;
using VmFuzz.Fuzzing;

namespace VmFuzz.Cli;

/// <summary><c>vmfuzz corpus keep</c>.</summary>
internal static class KeepCommand
{
    /// <summary>Makes a regression of a finding.</summary>
    public static int Execute(Host host, string path, string output, string? from)
    {
        InputSubject subject = InputSubject.Read(path);
        if (subject.Finding is not { } finding)
        {
            throw UserError.At("this is no finding's directory", path, "name one; 'vmfuzz findings' lists them");
        }

        if (!Directory.Exists(output))
        {
            throw UserError.At("the folder of the regressions does not exist", output, "make it first");
        }

        string name = FindingNames.Slug(finding.Violation.Key);
        if (Path.Exists(Path.Combine(output, name)))
        {
            throw UserError.At("there is such a regression already", Path.Combine(output, name), "delete it first");
        }

        string? problem = null;
        Corpus folder = Corpus.OpenToRead(output, line => problem ??= line);
        string told = from ?? string.Create(CultureInfo.InvariantCulture, $"execution {finding.Execution} of a campaign with seed {finding.Campaign.Seed}");
        bool written = folder.TryMakeFolder(name)
            && folder.TryReplace(Path.Combine(name, FindingNames.Input), subject.Bytes)
            && folder.TryReplace(Path.Combine(name, Regression.Expect), Regression.ExpectOf(finding, told));
        if (!written)
        {
            throw new UserError(problem ?? "the regression cannot be written");
        }

        host.Out.WriteLine(Quantities.Plain(Path.Combine(output, name)));
        return ExitStatus.Fine;
    }
}
