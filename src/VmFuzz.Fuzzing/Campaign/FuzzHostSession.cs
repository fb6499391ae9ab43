using System.Collections.Immutable;
using System.Globalization;
using System.Text.Json;

namespace VmFuzz.Fuzzing;

/// <summary>Answers requests to one campaign.</summary>
internal sealed class FuzzHostSession(FuzzHostConfig config, Campaign campaign, IFuzzExecutor executor, HostLog log)
{
    private static readonly ImmutableArray<Operation> Operations =
    [
        new(FuzzHostRequest.Step, static (s, r) => new FuzzHostResponse { Status = s.Campaign.Step(r.Executions, r.Time) }),
        new(FuzzHostRequest.Status, static (s, _) => new FuzzHostResponse { Status = s.Campaign.Status() }),
        new(FuzzHostRequest.Stats, static (s, r) => s.Stats(r)),
        new(FuzzHostRequest.Input, static (s, r) => s.Input(r)),
        new(FuzzHostRequest.Rerun, static (s, r) => s.Rerun(r)),
        new(FuzzHostRequest.Finding, static (s, r) => s.Finding(r)),
        new(FuzzHostRequest.Stop, static (s, _) => s.Stop()),
    ];

    private bool _stopped;

    private Campaign Campaign => campaign;

    /// <summary>Answers a request, both as UTF-8 JSON.</summary>
    public byte[] Answer(byte[] request)
    {
        FuzzHostResponse response;
        try
        {
            response = Answer(JsonSerializer.Deserialize(request, FuzzJson.Default.FuzzHostRequest) ?? throw new JsonException("null is not a request"));
        }
        catch (JsonException e)
        {
            response = Error($"the request is not understood: {e.Message}");
        }

        if (response.Place is null)
        {
            response.Log = log.Take();
        }

        return response.ToJson();
    }

    private static FuzzHostResponse Error(string text) => new() { Error = text };

    private FuzzHostResponse Answer(FuzzHostRequest request)
    {
        if (request.Op == FuzzHostRequest.Place)
        {
            // From another thread: nothing of the campaign may be touched.
            return new FuzzHostResponse { Place = executor.Place };
        }

        if (_stopped)
        {
            return Error("the campaign is closed");
        }

        foreach (Operation operation in Operations)
        {
            if (operation.Name == request.Op)
            {
                return operation.Answer(this, request);
            }
        }

        return Error($"there is no operation {request.Op}; there are {string.Join(", ", Operations.Select(static o => o.Name))}");
    }

    private FuzzHostResponse Stats(FuzzHostRequest request)
    {
        campaign.WriteStats(request.Time, config.Clock, request.Clock, config.Process, config.Banner, config.CommandLine);
        return new FuzzHostResponse { Status = campaign.Status() };
    }

    private FuzzHostResponse Input(FuzzHostRequest request) =>
        campaign.TryInputOf(request.Index, out MadeInput? made) is { } bad
            ? Error(bad)
            : new FuzzHostResponse { Status = campaign.Status(), Input = FuzzCodec.Encode(made!.Input), Source = made.Source };

    private FuzzHostResponse Rerun(FuzzHostRequest request) =>
        campaign.TryRerun(request.Index, out RerunResult? again) is { } bad
            ? Error(bad)
            : new FuzzHostResponse
            {
                Status = campaign.Status(),
                Input = FuzzCodec.Encode(again!.Made.Input),
                Source = again.Made.Source,
                Violation = again.Violation?.ToString(),
                Digest = again.Digest.ToString("x16", CultureInfo.InvariantCulture),
                SameDigest = again.Made.Digest is { } noted ? noted == again.Digest : null,
            };

    private FuzzHostResponse Finding(FuzzHostRequest request) =>
        request.Oracle.Length == 0
            ? Error("a finding needs an oracle")
            : campaign.TryAddFatal(request.Index, new Violation(request.Oracle, request.Where, request.Text), request.Time) is { } bad
                ? Error(bad)
                : new FuzzHostResponse { Status = campaign.Status() };

    private FuzzHostResponse Stop()
    {
        _stopped = true;
        int left = campaign.Flush();
        CampaignStatus status = campaign.Status();
        campaign.Dispose();
        executor.Dispose();
        return left == 0
            ? new FuzzHostResponse { Status = status }
            : new FuzzHostResponse { Status = status, Error = string.Create(CultureInfo.InvariantCulture, $"{left} files could not be written") };
    }

    private sealed record Operation(string Name, Func<FuzzHostSession, FuzzHostRequest, FuzzHostResponse> Answer);
}
