using Mono.Cecil;
using Mono.Cecil.Cil;

namespace VmFuzz.Coverage.Tests;

/// <summary>Assemblies made of IL that no C# compiler would write.</summary>
internal static class Made
{
    public const string TypeName = "Made.Entry";
    public const string MethodName = "Run";

    /// <summary>An assembly with <c>static byte[] Made.Entry.Run(byte[])</c>.</summary>
    public static byte[] Assembly(string name, Action<ModuleDefinition, MethodDefinition> fill)
    {
        using var assembly = AssemblyDefinition.CreateAssembly(new AssemblyNameDefinition(name, new Version(1, 0)), name, ModuleKind.Dll);
        ModuleDefinition module = assembly.MainModule;
        var type = new TypeDefinition("Made", "Entry", TypeAttributes.Public | TypeAttributes.Abstract | TypeAttributes.Sealed, module.TypeSystem.Object);
        var bytes = new ArrayType(module.TypeSystem.Byte);
        var method = new MethodDefinition(MethodName, MethodAttributes.Public | MethodAttributes.Static, bytes);
        method.Parameters.Add(new ParameterDefinition(bytes));
        type.Methods.Add(method);
        module.Types.Add(type);
        fill(module, method);
        using var stream = new MemoryStream();
        assembly.Write(stream);
        return stream.ToArray();
    }

    /// <summary>If the first byte is not 0, skips a number of one-byte instructions by a short branch; gives [2] or [1].</summary>
    /// <param name="gap">Bytes between the branch and its target: 127 is the most a short branch can do.</param>
    public static Action<ModuleDefinition, MethodDefinition> ShortBranch(int gap) => (module, method) =>
    {
        ILProcessor il = method.Body.GetILProcessor();
        method.Body.Variables.Add(new VariableDefinition(module.TypeSystem.Int32));
        method.Body.InitLocals = true;
        Instruction target = il.Create(OpCodes.Ldc_I4_1);
        il.Emit(OpCodes.Ldarg_0);
        il.Emit(OpCodes.Ldc_I4_0);
        il.Emit(OpCodes.Ldelem_U1);
        il.Emit(OpCodes.Brtrue_S, target);
        il.Emit(OpCodes.Ldc_I4_1);
        il.Emit(OpCodes.Stloc_0);
        for (int i = 2; i < gap; i++)
        {
            il.Emit(OpCodes.Nop);
        }

        il.Append(target);
        il.Emit(OpCodes.Newarr, module.TypeSystem.Byte);
        il.Emit(OpCodes.Dup);
        il.Emit(OpCodes.Ldc_I4_0);
        il.Emit(OpCodes.Ldc_I4_2);
        il.Emit(OpCodes.Ldloc_0);
        il.Emit(OpCodes.Sub);
        il.Emit(OpCodes.Stelem_I1);
        il.Emit(OpCodes.Ret);
    };

    /// <summary>Counts up to the first byte by a chain of branches, as many as told; gives the count.</summary>
    public static Action<ModuleDefinition, MethodDefinition> BranchChain(int links) => (module, method) =>
    {
        ILProcessor il = method.Body.GetILProcessor();
        method.Body.Variables.Add(new VariableDefinition(module.TypeSystem.Int32));
        method.Body.InitLocals = true;
        for (int i = 0; i < links; i++)
        {
            Instruction next = il.Create(OpCodes.Nop);
            il.Emit(OpCodes.Ldarg_0);
            il.Emit(OpCodes.Ldc_I4_0);
            il.Emit(OpCodes.Ldelem_U1);
            il.Emit(OpCodes.Ldloc_0);
            il.Emit(OpCodes.Ble_S, next);
            il.Emit(OpCodes.Ldloc_0);
            il.Emit(OpCodes.Ldc_I4_1);
            il.Emit(OpCodes.Add);
            il.Emit(OpCodes.Stloc_0);
            il.Append(next);
        }

        il.Emit(OpCodes.Ldc_I4_1);
        il.Emit(OpCodes.Newarr, module.TypeSystem.Byte);
        il.Emit(OpCodes.Dup);
        il.Emit(OpCodes.Ldc_I4_0);
        il.Emit(OpCodes.Ldloc_0);
        il.Emit(OpCodes.Stelem_I1);
        il.Emit(OpCodes.Ret);
    };

    /// <summary>A tail call whose return is also a branch's target: an empty input comes back, another goes through <c>Copy</c>.</summary>
    public static Action<ModuleDefinition, MethodDefinition> TailCall() => static (module, method) =>
    {
        var copy = new MethodDefinition("Copy", MethodAttributes.Public | MethodAttributes.Static, method.ReturnType);
        copy.Parameters.Add(new ParameterDefinition(method.ReturnType));
        ILProcessor copyIl = copy.Body.GetILProcessor();
        copyIl.Emit(OpCodes.Ldarg_0);
        copyIl.Emit(OpCodes.Ret);
        method.DeclaringType.Methods.Add(copy);

        ILProcessor il = method.Body.GetILProcessor();
        Instruction end = il.Create(OpCodes.Ret);
        il.Emit(OpCodes.Ldarg_0);
        il.Emit(OpCodes.Ldarg_0);
        il.Emit(OpCodes.Ldlen);
        il.Emit(OpCodes.Brfalse_S, end);
        il.Emit(OpCodes.Tail);
        il.Emit(OpCodes.Call, copy);
        il.Append(end);
    };
}
