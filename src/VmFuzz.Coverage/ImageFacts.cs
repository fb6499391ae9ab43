using System.Collections.Immutable;
using System.Reflection.Metadata;
using System.Reflection.Metadata.Ecma335;
using System.Reflection.PortableExecutable;

namespace VmFuzz.Coverage;

/// <summary>What must be known of an image before anything else looks at it.</summary>
/// <param name="Name">Simple name of the assembly.</param>
/// <param name="ModuleVersion">Module version id, 32 hexadecimal digits.</param>
/// <param name="References">Simple names of the assemblies that it uses.</param>
internal sealed record ImageFacts(string Name, string ModuleVersion, ImmutableArray<string> References)
{
    /// <summary>Reads the facts.</summary>
    /// <param name="image">The whole file; not closed.</param>
    /// <param name="facts">The facts, when the result is null.</param>
    /// <param name="ilOnly">Refuse images that hold native code.</param>
    public static CoverageError? Read(Stream image, out ImageFacts facts, bool ilOnly = true)
    {
        facts = null!;
        try
        {
            using var pe = new PEReader(image, PEStreamOptions.LeaveOpen);
            if (!pe.HasMetadata || pe.PEHeaders.CorHeader is not { } header)
            {
                return new CoverageError(CoverageErrorKind.NotManaged, "the image has no managed metadata");
            }

            if (ilOnly && ((header.Flags & CorFlags.ILOnly) == 0 || header.ManagedNativeHeaderDirectory.Size != 0 || header.VtableFixupsDirectory.Size != 0))
            {
                return new CoverageError(CoverageErrorKind.NotILOnly, "the image holds native code: build it without ahead-of-time compilation");
            }

            MetadataReader metadata = pe.GetMetadataReader();
            if (!metadata.IsAssembly)
            {
                return new CoverageError(CoverageErrorKind.NotAssembly, "the image is a module without an assembly manifest");
            }

            var references = ImmutableArray.CreateBuilder<string>();
            foreach (AssemblyReferenceHandle handle in metadata.AssemblyReferences)
            {
                references.Add(metadata.GetString(metadata.GetAssemblyReference(handle).Name));
            }

            if (Version(metadata) is not { } version)
            {
                return new CoverageError(CoverageErrorKind.Malformed, "the module has no version id");
            }

            facts = new ImageFacts(metadata.GetString(metadata.GetAssemblyDefinition().Name), version, references.ToImmutable());
            return null;
        }
        catch (Exception e) when (e is BadImageFormatException or InvalidOperationException or IOException or ArgumentException or OverflowException)
        {
            return new CoverageError(CoverageErrorKind.Malformed, $"the image cannot be read: {e.Message}");
        }
    }

    private static unsafe string? Version(MetadataReader metadata)
    {
        GuidHandle handle = metadata.GetModuleDefinition().Mvid;
        int at = metadata.GetHeapMetadataOffset(HeapIndex.Guid) + ((MetadataTokens.GetHeapOffset(handle) - 1) * 16);
        if (handle.IsNil || at < 0 || at > metadata.MetadataLength - 16)
        {
            return null;
        }

        // SAFETY: 16 bytes from there lie inside the metadata, checked above; the reader's image is alive in the caller.
        return Convert.ToHexStringLower(new ReadOnlySpan<byte>(metadata.MetadataPointer + at, 16));
    }
}
