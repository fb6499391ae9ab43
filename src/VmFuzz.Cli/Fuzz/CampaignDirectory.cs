namespace VmFuzz.Cli;

/// <summary>The directory of a running campaign: made or taken over, and locked while it runs.</summary>
internal sealed class CampaignDirectory : IDisposable
{
    private const string LockName = ".lock";

    private readonly FileStream _lock;

    private CampaignDirectory(FuzzArguments arguments, CampaignFile file, FileStream held, bool resumed) =>
        (Root, Shown, File, _lock, Resumed) = (arguments.Output, arguments.ShownOutput, file, held, resumed);

    /// <summary>Full path.</summary>
    public string Root { get; }

    /// <summary>The path as the user wrote it.</summary>
    public string Shown { get; }

    /// <summary>What the campaign is.</summary>
    public CampaignFile File { get; }

    /// <summary>Whether it was there before.</summary>
    public bool Resumed { get; }

    /// <summary>Full path of a worker's directory.</summary>
    public string Worker(int worker) => Path.Combine(Root, CampaignFile.WorkerName(worker));

    /// <summary>Starts a campaign or takes one over. Nothing is touched when something is wrong.</summary>
    /// <param name="arguments">What was asked for.</param>
    /// <param name="freshSeed">Gives a seed when none was given.</param>
    public static CampaignDirectory Open(FuzzArguments arguments, Func<ulong> freshSeed)
    {
        string root = arguments.Output;
        string shown = arguments.ShownOutput;
        if (System.IO.File.Exists(root))
        {
            throw UserError.At("the output is a file", shown, "choose another --out");
        }

        bool there = System.IO.File.Exists(Path.Combine(root, CampaignFile.Name));
        if (there && !arguments.Resume)
        {
            throw UserError.At("there is a campaign already", shown, "add --resume to go on with it, or choose another --out");
        }

        if (!there && arguments.Resume)
        {
            throw UserError.At("there is no campaign to go on with", shown, "leave --resume out, or check --out");
        }

        if (!there && HoldsSomething(root, shown))
        {
            throw UserError.At("the directory holds other things", shown, "choose another --out");
        }

        CampaignFile file = there ? Same(CampaignFile.Read(root, shown), arguments) : CampaignFile.Of(arguments, arguments.Seed ?? freshSeed());
        FileStream held = Lock(root, shown);
        try
        {
            // Written under the lock: two that start at once do not both begin.
            if (!there && System.IO.File.Exists(Path.Combine(root, CampaignFile.Name)))
            {
                throw UserError.At("another campaign has just started", shown, "choose another --out");
            }

            string path = Path.Combine(root, CampaignFile.Name);
            System.IO.File.WriteAllBytes(path + ".tmp", file.ToBytes());
            System.IO.File.Move(path + ".tmp", path, overwrite: true);
            return new CampaignDirectory(arguments, file, held, there);
        }
        catch (Exception error) when (error is IOException or UnauthorizedAccessException)
        {
            if (!there)
            {
                Clear(root);
            }

            held.Dispose();
            throw UserError.At($"the campaign cannot be written ({error.Message.ReplaceLineEndings(" ")})", shown, "choose another --out");
        }
        catch
        {
            held.Dispose();
            throw;
        }
    }

    /// <summary>Locks a campaign that is only looked at.</summary>
    public static IDisposable Hold(string root, string shown) => Lock(root, shown);

    /// <summary>Takes back a campaign that never began, so that another can begin in the same place.</summary>
    public void Withdraw()
    {
        if (!Resumed)
        {
            Clear(Root);
        }
    }

    /// <inheritdoc/>
    public void Dispose() => _lock.Dispose();

    // What stands there of a campaign that never ran.
    private static void Clear(string root)
    {
        try
        {
            foreach (string file in Directory.GetFiles(root, LockName + "*").Concat(Directory.GetFiles(root, CampaignFile.Name + "*")))
            {
                System.IO.File.Delete(file);
            }

            Directory.Delete(root);
        }
        catch (Exception error) when (error is IOException or UnauthorizedAccessException)
        {
            // What is left says itself that it is there.
        }
    }

    private static bool HoldsSomething(string root, string shown)
    {
        try
        {
            return Directory.Exists(root) && Directory.EnumerateFileSystemEntries(root).Any(static e => Path.GetFileName(e) != LockName);
        }
        catch (Exception error) when (error is IOException or UnauthorizedAccessException)
        {
            throw UserError.At($"the output cannot be read ({error.Message.ReplaceLineEndings(" ")})", shown, "choose another --out");
        }
    }

    // What steers a campaign cannot change on the way: its executions could not be made again.
    private static CampaignFile Same(CampaignFile file, FuzzArguments arguments)
    {
        (bool Differs, string What, string Option)[] rules =
        [
            (file.Target != arguments.Target.Name, $"the campaign's target is {file.Target}", "--target"),
            (file.Driver != arguments.Driver.Name, $"the campaign's driver is {file.Driver}", "--driver"),
            (arguments.Seed is { } seed && seed != file.Seed, $"the campaign's seed is {file.Seed}", "--seed"),
            (file.Coverage != arguments.Coverage, $"the campaign runs with{(file.Coverage ? "" : "out")} coverage", "--no-coverage"),
            (!file.PluginIdentities.AsSpan().SequenceEqual(arguments.PluginIdentities.AsSpan()), $"the campaign's plug-ins are {Listed(file)}", "--plugin"),
        ];
        foreach ((bool differs, string what, string option) in rules)
        {
            if (differs)
            {
                throw UserError.At(what, option, "give the same with --resume, or choose another --out");
            }
        }

        return file with { Jobs = Math.Max(file.Jobs, arguments.Jobs) };
    }

    private static string Listed(CampaignFile file) =>
        file.PluginIdentities.Length == 0 ? "none" : string.Join(", ", file.PluginIdentities.Zip(file.Plugins, static (identity, path) => $"{identity} ({path})"));

    private static FileStream Lock(string root, string shown)
    {
        try
        {
            Directory.CreateDirectory(root);
        }
        catch (Exception error) when (error is IOException or UnauthorizedAccessException or NotSupportedException)
        {
            throw UserError.At($"the output cannot be made ({error.Message.ReplaceLineEndings(" ")})", shown, "choose another --out");
        }

        try
        {
            return new FileStream(Path.Combine(root, LockName), FileMode.OpenOrCreate, FileAccess.ReadWrite, FileShare.None);
        }
        catch (IOException error) when (error is not (DirectoryNotFoundException or PathTooLongException))
        {
            throw UserError.At("a campaign is running there", shown, "wait for its end, or choose another --out");
        }
        catch (Exception error) when (error is IOException or UnauthorizedAccessException)
        {
            throw UserError.At($"the output cannot be written ({error.Message.ReplaceLineEndings(" ")})", shown, "choose another --out");
        }
    }
}
