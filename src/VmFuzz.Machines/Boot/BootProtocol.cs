namespace VmFuzz.Machines;

/// <summary>How a kernel is loaded and entered.</summary>
public enum BootProtocol : byte
{
    /// <summary>By what the image is: PVH, multiboot 1, or the Linux boot protocol at its widest entry.</summary>
    Auto,
    /// <summary>PVH: the ELF note XEN_ELFNOTE_PHYS32_ENTRY; of a bzImage its compressed kernel is taken out.</summary>
    Pvh,
    /// <summary>Multiboot 1 with an ELF image of 32 bits.</summary>
    Multiboot,
    /// <summary>The 64-bit entry of a bzImage.</summary>
    Linux64,
    /// <summary>The 32-bit entry of a bzImage.</summary>
    Linux32,
}
