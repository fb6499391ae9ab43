using FsCheck;
using FsCheck.Fluent;
using Microsoft.FSharp.Core;

namespace VmFuzz.Testing;

/// <summary>A property failed; the message holds the smallest case found and how to reproduce it.</summary>
public sealed class PropertyFailedException : Exception
{
    /// <summary>Makes an exception without a message.</summary>
    public PropertyFailedException()
    {
    }

    /// <summary>Makes an exception.</summary>
    public PropertyFailedException(string message)
        : base(message)
    {
    }

    /// <summary>Makes an exception with its cause.</summary>
    public PropertyFailedException(string message, Exception innerException)
        : base(message, innerException)
    {
    }
}

/// <summary>Runs a property over generated cases; no ambient randomness.</summary>
public static class PropertyCheck
{
    /// <summary>Runs a property.</summary>
    /// <param name="cases">Generator and shrinker.</param>
    /// <param name="seed">Seed of the cases.</param>
    /// <param name="count">Number of cases, from 1.</param>
    /// <param name="property">Throws when the property does not hold.</param>
    /// <exception cref="PropertyFailedException">It does not hold for some case.</exception>
    public static void Run<T>(Arbitrary<T> cases, PropertySeed seed, int count, Action<T> property)
    {
        ArgumentNullException.ThrowIfNull(property);
        Config config = Config.QuickThrowOnFailure
            .WithMaxTest(count)
            .WithStartSize(5)
            .WithEndSize(60)
            .WithQuietOnSuccess(true)
            .WithReplay(FSharpOption<FsCheck.Replay>.Some(new FsCheck.Replay(new Rnd(seed.Seed, seed.Gamma), FSharpOption<int>.None)));
        Exception? last = null;
        try
        {
            Check.One(config, Prop.ForAll(cases, item =>
            {
                try
                {
                    property(item);
                    return true;
                }
                catch (Exception e)
                {
                    last = e;
                    throw;
                }
            }));
        }
        catch (Exception e)
        {
            throw new PropertyFailedException($"reproduce with VMFUZZ_SEED={seed}\n{e.Message}\nlast failure: {last?.Message}", last ?? e);
        }
    }
}
