using Iced.Intel;

namespace VmFuzz.Cpu.Blocks;

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
