namespace VmFuzz.Cli.Tests;

public class SupervisorTests : SupervisorFixture
{
    private const string Ready = """echo '{"word":"Ready","status":{"executions":5}}'""";
    private const string Done = """echo '{"word":"End","text":"done","status":{"executions":105,"corpus":3}}'""";

    [Fact]
    public void Run_WorkerDoesItsExecutions_CountsThoseOfThisRun()
    {
        (CampaignView view, string? problem) = RunScript($"{Ready}\n{Done}");
        Assert.Null(problem);
        Assert.Equal(100UL, view.Fresh);
        Assert.Equal(105UL, view.Executions);
        Assert.Empty(view.Findings);
        Assert.Equal(0, view.Workers[0].Restarts);
    }

    [Fact]
    public void Run_WorkerAbortsInAnExecution_IsStartedAgainAndToldOfIt()
    {
        (CampaignView view, _) = RunScript($$$"""
            if [ $n = 1 ]; then {{{Ready}}}; current 0 7; echo 'Stack overflow.' >&2; echo '   at A.B(C)' >&2; kill -ABRT $$; fi
            case $order in
                *'"execution":7,"oracle":"process-death","where":"stack-overflow in A.B"'*)
                    echo '{"word":"Finding","finding":{"key":"process-death@x","text":"t","worker":0,"execution":7,"file":"/f"}}' ;;
            esac
            {{{Ready}}}
            {{{Done}}}
            """);
        FoundFinding finding = Assert.Single(view.Findings);
        Assert.Equal(7UL, finding.Execution);
        Assert.Equal("/f", finding.File);
        Assert.Equal(1, view.Workers[0].Restarts);
        Assert.Contains("Stack overflow.", File.ReadAllText(Path.Combine(Arguments.Output, "worker00", "deaths.log")), StringComparison.Ordinal);
    }

    [Fact]
    public void Run_ExecutionDoesNotEnd_IsKilledAndToldAsAHang()
    {
        (CampaignView view, _) = RunScript($$$"""
            if [ $n = 1 ]; then {{{Ready}}}; current 0 3; while :; do :; done; fi
            case $order in
                *'"execution":3,"oracle":"hang"'*)
                    echo '{"word":"Finding","finding":{"key":"hang@worker","text":"t","worker":0,"execution":3,"file":"/f"}}' ;;
            esac
            {{{Ready}}}
            {{{Done}}}
            """);
        Assert.Equal("hang@worker", Assert.Single(view.Findings).Key);
        Assert.Equal(1, view.Workers[0].Restarts);
    }

    [Fact]
    public void Run_InputOfADeathCannotBeHadEither_IsAFindingWithoutAFile()
    {
        (CampaignView view, _) = RunScript($$$"""
            if [ $n = 1 ]; then {{{Ready}}}; current 0 7; kill -ABRT $$; fi
            if [ $n = 2 ]; then kill -ABRT $$; fi
            case $order in *process-death*) exit 9 ;; esac
            {{{Ready}}}
            {{{Done}}}
            """);
        FoundFinding finding = Assert.Single(view.Findings);
        Assert.Equal("process-death@signal-6", finding.Key);
        Assert.Null(finding.File);
        Assert.Equal(7UL, finding.Execution);
        Assert.Equal(2, view.Workers[0].Restarts);
        Assert.Contains("fuzz rerun", FuzzReport.CommandOf(finding, view), StringComparison.Ordinal);
    }

    [Fact]
    public void Run_WorkerKilledFromOutside_GoesOnWithoutAFinding()
    {
        (CampaignView view, _) = RunScript($$$"""
            if [ $n = 1 ]; then {{{Ready}}}; current 0 7; kill -KILL $$; fi
            case $order in *execution\":7*) echo '{"word":"Finding","finding":{"key":"wrong","text":"","worker":0,"execution":7}}' ;; esac
            {{{Ready}}}
            {{{Done}}}
            """);
        Assert.Empty(view.Findings);
        Assert.Equal(1, view.Workers[0].Restarts);
        Assert.Contains(View.Said, static s => s.Contains("killed from outside (signal 9)", StringComparison.Ordinal));
    }

    [Fact]
    public void Run_QueueEntryEndsTheProcess_IsLeftOutFromThenOn()
    {
        (CampaignView view, _) = RunScript($$$"""
            if [ $n = 1 ]; then current 1 4; kill -SEGV $$; fi
            case $order in *'"skip":[4]'*) {{{Ready}}}; {{{Done}}} ;; esac
            """);
        Assert.Equal(100UL, view.Fresh);
        Assert.Empty(view.Findings);
    }

    [Fact]
    public void Run_WorkerNeverBegins_IsGivenUpWithOneLine()
    {
        (CampaignView view, string? problem) = RunScript("exit 9");
        Assert.NotNull(problem);
        Assert.Contains("10 times in a row", problem, StringComparison.Ordinal);
        Assert.Contains("status 9", problem, StringComparison.Ordinal);
        Assert.Equal("given up", view.Workers[0].State);
        Assert.Equal(10, File.ReadAllLines(At("starts")).Length);
    }

    [Fact]
    public void Run_WorkerOpensItsCampaignAndDiesEachTime_IsGivenUp()
    {
        (_, string? problem) = RunScript($"{Ready}\ncurrent 3 $((n % 8)); exit 9");
        Assert.NotNull(problem);
        Assert.Equal(10, File.ReadAllLines(At("starts")).Length);
    }

    [Fact]
    public void Run_WorkerRefuses_IsTheUsersErrorAndLeavesNothing()
    {
        UserError error = Assert.Throws<UserError>(() => RunScript("""echo '{"word":"Refused","text":"a plug-in is bad"}'; exit 2"""));
        Assert.Equal("a plug-in is bad", error.Message);
        Assert.False(File.Exists(Path.Combine(Arguments.Output, CampaignFile.Name)));
    }

    [Fact]
    public void Run_WorkerHasGrown_IsStartedAgainWithWhatIsLeft()
    {
        (CampaignView view, _) = RunScript(
            $$$"""
            if [ $n = 1 ]; then {{{Ready}}}; echo '{"word":"End","text":"memory","status":{"executions":35}}'; exit 0; fi
            echo '{"word":"Ready","status":{"executions":35}}'
            case $order in *'"executions":70,'*) {{{Done}}} ;; esac
            """,
            Arguments with { Executions = 100 });
        Assert.Equal(100UL, view.Fresh);
        Assert.Equal(1, view.Workers[0].Restarts);
    }

    [Fact]
    public void Stop_WorkerFuzzes_LetsItEnd()
    {
        (CampaignView view, string? problem) = RunScript(
            $$$"""{{{Ready}}}; IFS= read -r order; case $order in *'"stop":true'*) {{{Done}}} ;; esac""",
            started: supervisor => View.Shown = shown =>
            {
                if (shown.Workers[0].State == "fuzzing")
                {
                    supervisor.Stop();
                }
            });
        Assert.Null(problem);
        Assert.Equal(100UL, view.Fresh);
    }

    [Fact]
    public void Run_SameFindingOfTwoWorkers_IsOneFinding()
    {
        (CampaignView view, _) = RunScript(
            $$$"""
            {{{Ready}}}
            echo '{"word":"Finding","finding":{"key":"k","text":"t","worker":0,"execution":3}}'
            echo '{"word":"Finding","finding":{"key":"k","text":"t","worker":0,"execution":3,"file":"/f"}}'
            {{{Done}}}
            """,
            Arguments with { Jobs = 2 });
        Assert.Equal("/f", Assert.Single(view.Findings).File);
        Assert.Single(View.Findings);
        Assert.Equal(2, view.Workers.Length);
    }
}
