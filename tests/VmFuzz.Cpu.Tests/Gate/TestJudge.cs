using System.Reflection;
using Iced.Intel;
using Xunit.Sdk;
using Xunit.v3;

namespace VmFuzz.Cpu.Tests.Gate;

/// <summary>The named tests of this project as judges: each is run once to see which forms it executes, then for their mutants.</summary>
internal sealed class TestJudge
{
    // Tests about the host, about speed and about all rows at once say little of one row and take long.
    private static readonly string[] Others = ["VmFuzz.Cpu.Tests.Silicon", "VmFuzz.Cpu.Tests.Gate", "VmFuzz.Cpu.Tests.Events", "VmFuzz.Cpu.Tests.Vectors"];

    private readonly Dictionary<Code, List<Case>> _byForm = [];

    public TestJudge()
    {
        foreach (Case test in Cases())
        {
            var executed = new HashSet<Code>();
            if (!test.Fails(TestVariant.Recording(form => executed.Add(form))))
            {
                Count++;
                foreach (Code form in executed)
                {
                    (_byForm.TryGetValue(form, out List<Case>? tests) ? tests : _byForm[form] = []).Add(test);
                }
            }
        }
    }

    /// <summary>Tests that can judge: those that pass with rows that are only watched.</summary>
    public int Count { get; }

    /// <summary>The name of the first test that fails for a mutant, or null.</summary>
    public string? Kill(Mutant mutant) => _byForm.TryGetValue(mutant.Form, out List<Case>? tests)
        ? tests.FirstOrDefault(test => test.Fails(mutant.Table))?.Name
        : null;

    private static IEnumerable<Case> Cases()
    {
        foreach (Type type in typeof(TestJudge).Assembly.GetTypes().OrderBy(static type => type.FullName, StringComparer.Ordinal))
        {
            if (!type.IsClass || type.IsAbstract || type.GetConstructor(Type.EmptyTypes) is null || Others.Contains(type.Namespace, StringComparer.Ordinal)
                || type == typeof(ThreadingTests))
            {
                continue;
            }

            foreach (MethodInfo method in type.GetMethods().OrderBy(static method => method.Name, StringComparer.Ordinal))
            {
                if (method.GetCustomAttribute<TheoryAttribute>() is not null)
                {
                    foreach (object?[] arguments in method.GetCustomAttributes<DataAttribute>().SelectMany(data => Rows(data, method)))
                    {
                        yield return new Case(type, method, arguments);
                    }
                }
                else if (method.GetCustomAttribute<FactAttribute>() is not null)
                {
                    yield return new Case(type, method, []);
                }
            }
        }
    }

    private static IEnumerable<object?[]> Rows(DataAttribute data, MethodInfo method)
    {
        using var disposals = new TestDisposal();
        return [.. data.GetData(method, disposals.Tracker).AsTask().GetAwaiter().GetResult().Select(static row => row.GetData())];
    }

    private sealed class TestDisposal : IDisposable
    {
        public DisposalTracker Tracker { get; } = new();

        public void Dispose() => Tracker.DisposeAsync().AsTask().GetAwaiter().GetResult();
    }

    private sealed class Case(Type type, MethodInfo method, object?[] arguments)
    {
        public string Name => $"{type.Name}.{method.Name}";

        public bool Fails(InstructionTable table)
        {
            bool failed = false;
            TestVariant.With(table, () =>
            {
                try
                {
                    ParameterInfo[] parameters = method.GetParameters();
                    object?[] values = [.. parameters.Select(Value)];
                    method.Invoke(method.IsStatic ? null : Activator.CreateInstance(type), values);
                }
                catch (TargetInvocationException)
                {
                    failed = true;
                }
            });
            return failed;
        }

        private object? Value(ParameterInfo parameter)
        {
            if (parameter.Position >= arguments.Length)
            {
                return parameter.DefaultValue;
            }

            object? value = arguments[parameter.Position];
            Type wanted = parameter.ParameterType;
            return value is null || wanted.IsInstanceOfType(value) ? value
                : wanted.IsEnum ? Enum.ToObject(wanted, value)
                : Convert.ChangeType(value, wanted, System.Globalization.CultureInfo.InvariantCulture);
        }
    }
}
