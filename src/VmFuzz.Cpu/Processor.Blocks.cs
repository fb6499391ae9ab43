namespace VmFuzz.Cpu;

// Decoded blocks.
public sealed unsafe partial class Processor
{
    private void InitializeBlocks() { }

    private void DisposeBlocks() { }

    /// <inheritdoc/>
    public void OnCodePageChanged(int pageIndex) { }

    private void OnCodeWrite(int pageIndex, int offset) { }
}
