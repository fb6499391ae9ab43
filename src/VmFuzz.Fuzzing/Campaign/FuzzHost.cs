namespace VmFuzz.Fuzzing;

/// <summary>The way into a campaign from outside the instrumented load context: only bytes cross.</summary>
public static class FuzzHost
{
    /// <summary>Opens a campaign.</summary>
    /// <param name="config">A <see cref="FuzzHostConfig"/> as UTF-8 JSON.</param>
    /// <returns>
    /// Answers a <see cref="FuzzHostRequest"/> with a <see cref="FuzzHostResponse"/>, both as UTF-8 JSON. When the campaign
    /// cannot be opened every answer is the same error.
    /// </returns>
    public static Func<byte[], byte[]> Open(byte[] config)
    {
        ArgumentNullException.ThrowIfNull(config);
        byte[] answer = new FuzzHostResponse { Error = "not built yet", Refused = true }.ToJson();
        return _ => answer;
    }
}
