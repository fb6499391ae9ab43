namespace VmFuzz.Devices;

/// <summary>A date and a time of day, in the proleptic Gregorian calendar.</summary>
internal readonly record struct CivilTime(int Year, int Month, int Day, int Hour, int Minute, int Second)
{
    private const long SecondsOfDay = 86400;

    /// <summary>Days since 1970-01-01. A day beyond the month's end runs into the next month.</summary>
    public long DayNumber
    {
        get
        {
            // Years begin in March, so that the leap day is the last one; eras have 400 years or 146097 days.
            int year = Month <= 2 ? Year - 1 : Year;
            int era = year / 400;
            int yearOfEra = year - (era * 400);
            int month = Month > 2 ? Month - 3 : Month + 9;
            int dayOfYear = (((153 * month) + 2) / 5) + Day - 1;
            int dayOfEra = (yearOfEra * 365) + (yearOfEra / 4) - (yearOfEra / 100) + dayOfYear;
            return (era * 146097L) + dayOfEra - 719468;
        }
    }

    /// <summary>Seconds since 1970-01-01 00:00:00.</summary>
    public long Seconds => (DayNumber * SecondsOfDay) + (Hour * 3600L) + (Minute * 60L) + Second;

    /// <summary>The time that many seconds after 1970-01-01 00:00:00; at least year 0.</summary>
    public static CivilTime FromSeconds(long seconds)
    {
        long days = Math.DivRem(seconds, SecondsOfDay, out long rest);
        if (rest < 0)
        {
            rest += SecondsOfDay;
            days--;
        }

        long z = days + 719468;
        long era = z / 146097;
        int dayOfEra = (int)(z - (era * 146097));
        int yearOfEra = (dayOfEra - (dayOfEra / 1460) + (dayOfEra / 36524) - (dayOfEra / 146096)) / 365;
        int dayOfYear = dayOfEra - ((365 * yearOfEra) + (yearOfEra / 4) - (yearOfEra / 100));
        int month = ((5 * dayOfYear) + 2) / 153;
        int day = dayOfYear - (((153 * month) + 2) / 5) + 1;
        int civilMonth = month < 10 ? month + 3 : month - 9;
        int year = (int)(yearOfEra + (era * 400)) + (civilMonth <= 2 ? 1 : 0);
        return new CivilTime(year, civilMonth, day, (int)(rest / 3600), (int)(rest / 60 % 60), (int)(rest % 60));
    }
}
