namespace VmFuzz.Conformance.Tests;

/// <summary>Where the corpus lies.</summary>
internal static class Repository
{
    /// <summary>The root of the repository.</summary>
    public static string Root { get; } = FindRoot();

    /// <summary>The folder of the guests.</summary>
    public static string Guests { get; } = Path.Combine(Root, "corpus", "guests");

    /// <summary>The bytes of a guest.</summary>
    public static byte[] Guest(string name) => File.ReadAllBytes(Path.Combine(Guests, name + ".bin"));

    private static string FindRoot()
    {
        for (DirectoryInfo? folder = new(AppContext.BaseDirectory); folder is not null; folder = folder.Parent)
        {
            if (File.Exists(Path.Combine(folder.FullName, "VmFuzz.sln")))
            {
                return folder.FullName;
            }
        }

        throw new InvalidOperationException("The tests run outside the repository: there is no VmFuzz.sln above them.");
    }
}
