namespace VmFuzz.Fuzzing;

/// <summary>Gets out of a loop of the engine in which the machine is never asked whether it shall stop.</summary>
internal sealed class NoProgressException(string message) : Exception(message);
