using Iced.Intel;

namespace VmFuzz.Cpu.Blocks;

// SAFETY: start and count name bytes of one page of guest memory, or of a pinned buffer, that outlive the decoding of one block.
/// <summary>Feeds Iced from host memory and ends at the page, so that a fetch fault and #UD stay distinct.</summary>
internal sealed unsafe class PageCodeReader : CodeReader
{
    private byte* _at;
    private byte* _end;

    public void Set(byte* start, int count)
    {
        _at = start;
        _end = start + count;
    }

    public override int ReadByte() => _at < _end ? *_at++ : -1;
}
